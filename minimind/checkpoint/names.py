"""Translating tensor names from any generation to the model's own, and back for messages."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from ..errors import CheckpointError

EMBEDDING = "model.embed_tokens.weight"
HEAD = "lm_head.weight"

BUFFER = re.compile(r"(?:^|\.)(?:mask|pos_cis|freqs_\w+|rotary_emb\.inv_freq)$")
WRAPPED_EMBEDDING = re.compile(r"(.+\.)(?:model\.embed_tokens|tok_embeddings)\.(?:base_layer\.)?weight")
FUSED_EXPERTS = re.compile(r"(model\.layers\.\d+\.mlp\.experts)\.(gate_up_proj|down_proj)(?:\.weight)?")

LEGACY_SEGMENTS = {
    "tok_embeddings": "embed_tokens",
    "output": "lm_head",
    "attention": "self_attn",
    "wq": "q_proj",
    "wk": "k_proj",
    "wv": "v_proj",
    "wo": "o_proj",
    "attention_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "feed_forward": "mlp",
    "w1": "gate_proj",
    "w2": "down_proj",
    "w3": "up_proj",
}
MODERN_SEGMENTS = {modern: legacy for legacy, modern in LEGACY_SEGMENTS.items()}


@dataclass(frozen=True)
class NamedTensors:
    """A checkpoint's tensors under the model's names.

    Attributes:
        tensors: Tensors by the names of `MiniMindForCausalLM`; fused experts are split into views.
        legacy: Whether the file has the names of v1 and MiniMind2-legacy, whose q and k are for interleaved RoPE.
        file_names: Name in the file of each tensor whose name was changed.
    """

    tensors: dict[str, torch.Tensor]
    legacy: bool = False
    file_names: Mapping[str, str] = field(default_factory=dict)

    def file_name(self, name: str) -> str:
        """The name in the file of the tensor `name`, also of one that is missing there."""
        return self.file_names.get(name) or (legacy_name(name) if self.legacy else name)


def clean_names(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Strip the prefixes that DistributedDataParallel, torch.compile, Lightning and PEFT add to names.

    Raises:
        CheckpointError: Two tensors have the same name without their prefixes.
    """
    names = [re.sub(r"^(?:module\.)+", "", name.replace("_orig_mod.", "")) for name in tensors]
    prefix = _common_prefix(names)
    cleaned: dict[str, torch.Tensor] = {}
    for name, original, tensor in zip(names, tensors, tensors.values(), strict=True):
        short = name.removeprefix(prefix)
        if short in cleaned:
            raise CheckpointError(
                f"tensor {short} is in the checkpoint twice, once as {original}; expected one of them"
            )
        cleaned[short] = tensor
    return cleaned


def _common_prefix(names: Sequence[str]) -> str:
    """The prefix of all names, such as the `model.` of a LightningModule, found from that of the embedding."""
    for name in names:
        embedding = WRAPPED_EMBEDDING.fullmatch(name)
        if embedding and all(other.startswith(embedding[1]) for other in names):
            return embedding[1]
    return ""


def to_model_names(tensors: Mapping[str, torch.Tensor]) -> NamedTensors:
    """Rename tensors with clean names to the model's names, and split fused experts.

    Raises:
        CheckpointError: The tensors are not a MiniMind's, or fused experts are misshapen.
    """
    modern = any(name.startswith(("model.embed_tokens.", "model.layers.")) for name in tensors)
    legacy = not modern and any(name.startswith("tok_embeddings.") or ".attention.w" in name for name in tensors)
    if not legacy and not modern:
        first = ", ".join(list(tensors)[:3])
        raise CheckpointError(f"missing tensor {EMBEDDING}: not a MiniMind checkpoint; its first tensors are: {first}")
    renamed: dict[str, torch.Tensor] = {}
    file_names: dict[str, str] = {}
    for name, tensor in tensors.items():
        fused = None if legacy else FUSED_EXPERTS.fullmatch(name)
        parts = _split_experts(name, tensor, fused[1], fused[2]) if fused else {name: tensor}
        for part, view in parts.items():
            model_name = modern_name(part) if legacy else part
            if model_name in renamed:
                raise CheckpointError(f"tensor {model_name} is in the checkpoint twice, once as {name}")
            renamed[model_name] = view
            if model_name != name:
                file_names[model_name] = name
    return NamedTensors(renamed, legacy, file_names)


def modern_name(legacy: str) -> str:
    """The model's name of a v1 or MiniMind2-legacy tensor: `layers.0.attention.wq.weight` gives `...q_proj.weight`."""
    segments = [LEGACY_SEGMENTS.get(segment, segment) for segment in legacy.split(".")]
    if "shared_experts" in segments:
        segments.insert(segments.index("shared_experts") + 1, "0")
    return ".".join(segments if segments[0] == "lm_head" else ["model", *segments])


def legacy_name(modern: str) -> str:
    """The name in v1 and MiniMind2-legacy of a model's tensor, the inverse of `modern_name`."""
    segments = [MODERN_SEGMENTS.get(segment, segment) for segment in modern.removeprefix("model.").split(".")]
    if "shared_experts" in segments:
        del segments[segments.index("shared_experts") + 1]
    return ".".join(segments)


def _split_experts(name: str, tensor: torch.Tensor, prefix: str, kind: str) -> dict[str, torch.Tensor]:
    """Views of each expert's matrices in Hugging Face's fused parameter, by the model's names.

    Args:
        name: Name of the tensor in the file.
        tensor: Fused parameter, `gate_up_proj` [E, 2 I, H], gate rows first, or `down_proj` [E, H, I].
        prefix: Prefix of the model's names, `model.layers.N.mlp.experts`.
        kind: `gate_up_proj` or `down_proj`.
    """
    if tensor.dim() != 3 or (kind == "gate_up_proj" and tensor.shape[1] % 2):
        expected = "[experts, 2 * width, hidden]" if kind == "gate_up_proj" else "[experts, hidden, width]"
        raise CheckpointError(f"tensor {name} has shape {list(tensor.shape)}; expected {expected}")
    parts: dict[str, torch.Tensor] = {}
    for index, expert in enumerate(tensor.unbind(0)):
        if kind == "down_proj":
            parts[f"{prefix}.{index}.down_proj.weight"] = expert
        else:
            gate, up = expert.chunk(2, dim=0)
            parts[f"{prefix}.{index}.gate_proj.weight"] = gate
            parts[f"{prefix}.{index}.up_proj.weight"] = up
    return parts
