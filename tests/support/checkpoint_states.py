"""State dicts as each generation's upstream writes them: tensor names and shapes, written out."""

from __future__ import annotations

from typing import TypeAlias

import torch

State: TypeAlias = dict[str, torch.Tensor]

H, V, WIDTH, LAYERS, EXPERTS = 64, 50, 96, 2, 4


def _fill(shapes: dict[str, tuple[int, ...]]) -> State:
    generator = torch.Generator().manual_seed(7)
    return {name: (torch.randn(shape, generator=generator) * 0.1).half() for name, shape in shapes.items()}


def _legacy(kv_rows: int, moe: bool, width: int) -> State:
    shapes: dict[str, tuple[int, ...]] = {"tok_embeddings.weight": (V, H), "norm.weight": (H,)}
    parts = {"w1": (width, H), "w2": (H, width), "w3": (width, H)}
    for layer in range(LAYERS):
        at = f"layers.{layer}"
        for name, rows in (("wq", H), ("wk", kv_rows), ("wv", kv_rows), ("wo", H)):
            shapes[f"{at}.attention.{name}.weight"] = (rows, H)
        shapes[f"{at}.attention_norm.weight"] = shapes[f"{at}.ffn_norm.weight"] = (H,)
        if moe:
            shapes[f"{at}.feed_forward.gate.weight"] = (EXPERTS, H)
        owners = [f"experts.{e}." for e in range(EXPERTS)] + ["shared_experts."] if moe else [""]
        for owner in owners:
            shapes |= {f"{at}.feed_forward.{owner}{name}.weight": shape for name, shape in parts.items()}
    state = _fill(shapes)
    return state | {"output.weight": state["tok_embeddings.weight"].clone()}


def _modern(query_rows: int, kv_rows: int, qk_norm: int, moe: bool, shared: int, width: int) -> State:
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (V, H), "model.norm.weight": (H,)}
    parts = {"gate_proj": (width, H), "up_proj": (width, H), "down_proj": (H, width)}
    for layer in range(LAYERS):
        at = f"model.layers.{layer}"
        for name, rows in (("q", query_rows), ("k", kv_rows), ("v", kv_rows)):
            shapes[f"{at}.self_attn.{name}_proj.weight"] = (rows, H)
        shapes[f"{at}.self_attn.o_proj.weight"] = (H, query_rows)
        shapes[f"{at}.input_layernorm.weight"] = shapes[f"{at}.post_attention_layernorm.weight"] = (H,)
        if qk_norm:
            shapes[f"{at}.self_attn.q_norm.weight"] = shapes[f"{at}.self_attn.k_norm.weight"] = (qk_norm,)
        if moe:
            shapes[f"{at}.mlp.gate.weight"] = (EXPERTS, H)
        owners = [f"experts.{e}." for e in range(EXPERTS)] + [f"shared_experts.{s}." for s in range(shared)]
        for owner in owners if moe else [""]:
            shapes |= {f"{at}.mlp.{owner}{name}.weight": shape for name, shape in parts.items()}
    state = _fill(shapes)
    return state | {"lm_head.weight": state["model.embed_tokens.weight"].clone()}


def make_state(kind: str = "minimind2", moe: bool = False, width: int = WIDTH) -> State:
    """A float16 state dict as upstream writes it, hidden size 64, 2 layers, vocabulary 50."""
    if kind == "v1":
        return _legacy(kv_rows=H // 2, moe=moe, width=width)
    if kind == "minimind2-legacy":
        return _legacy(kv_rows=H // 4, moe=moe, width=width)
    if kind == "minimind2":
        return _modern(query_rows=H, kv_rows=H // 4, qk_norm=0, moe=moe, shared=1, width=width)
    # head_dim 24 with 4 query heads: wider than the hidden size, so nothing can be guessed from it.
    return _modern(query_rows=96, kv_rows=48, qk_norm=24, moe=moe, shared=0, width=width)
