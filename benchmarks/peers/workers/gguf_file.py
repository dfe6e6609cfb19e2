"""Writing a Hugging Face folder of MiniMind's architectures as a float32 GGUF file, which llama.cpp reads.

llama.cpp's own conversion script is not part of its package, and refuses tokenizers that it does not know. The
benchmark of single generations gives token ids and takes logits, so its files have no vocabulary; that of servers
gives token ids and takes text.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from safetensors.numpy import load_file

ARCHITECTURES = {"llama": "llama", "qwen3": "qwen3", "qwen3_moe": "qwen3moe"}

NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "mlp.gate": "ffn_gate_inp",
}
"""The names of a layer's tensors in Hugging Face's form, with those in GGUF's."""


TOKENIZER = "gpt2"
"""GGUF's name for byte-level BPE."""

NORMAL, CONTROL = 1, 3
"""The types of tokens in GGUF."""


def write_gguf(source: Path, path: Path, *, vocabulary: bool = False) -> None:
    """Write a folder's weights and architecture as one GGUF file, with its byte-level BPE tokenizer where asked for."""
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    tensors = load_file(source / "model.safetensors")
    writer = gguf.GGUFWriter(path, ARCHITECTURES[config["model_type"]])
    write_architecture(writer, config)
    if vocabulary:
        write_vocabulary(writer, json.loads((source / "tokenizer.json").read_text(encoding="utf-8")), config)
    else:
        writer.add_tokenizer_model("none")
    for name, tensor in renamed(tensors, config).items():
        writer.add_tensor(name, np.ascontiguousarray(tensor, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_architecture(writer: gguf.GGUFWriter, config: dict[str, Any]) -> None:
    """Write the metadata that llama.cpp needs in addition to the tensors."""
    heads = config["num_attention_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    rope = config.get("rope_parameters") or config
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    if "num_experts" in config:
        writer.add_expert_count(config["num_experts"])
        writer.add_expert_used_count(config["num_experts_per_tok"])
        writer.add_expert_feed_forward_length(config["moe_intermediate_size"])


def write_vocabulary(writer: gguf.GGUFWriter, tokenizer: dict[str, Any], config: dict[str, Any]) -> None:
    """Write the tokens and merges of a `tokenizer.json`; texts are split in llama.cpp's default way, not the file's."""
    tokens = sorted(tokenizer["model"]["vocab"], key=tokenizer["model"]["vocab"].__getitem__)
    special = {token["content"] for token in tokenizer["added_tokens"]}
    writer.add_tokenizer_model(TOKENIZER)
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_types([CONTROL if token in special else NORMAL for token in tokens])
    writer.add_token_merges(
        [pair if isinstance(pair, str) else " ".join(pair) for pair in tokenizer["model"]["merges"]]
    )
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])


def renamed(tensors: dict[str, np.ndarray], config: dict[str, Any]) -> dict[str, np.ndarray]:
    """The tensors under GGUF's names, with q and k in the order of the architecture and experts stacked."""
    result = {
        "token_embd.weight": tensors["model.embed_tokens.weight"],
        "output_norm.weight": tensors["model.norm.weight"],
    }
    if not config["tie_word_embeddings"]:
        result["output.weight"] = tensors["lm_head.weight"]
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        for theirs, name in NAMES.items():
            tensor = tensors.get(f"{prefix}{theirs}.weight")
            if tensor is not None:
                result[f"blk.{layer}.{name}.weight"] = in_rotary_order(tensor, theirs, config)
        for part in ("gate", "up", "down"):
            experts = [
                f"{prefix}mlp.experts.{index}.{part}_proj.weight" for index in range(config.get("num_experts", 0))
            ]
            if experts:
                result[f"blk.{layer}.ffn_{part}_exps.weight"] = np.stack([tensors[name] for name in experts])
    return result


def in_rotary_order(tensor: np.ndarray, name: str, config: dict[str, Any]) -> np.ndarray:
    """The tensor, with the rows of q and k interleaved for `llama`, where llama.cpp pairs element 2 i with 2 i + 1."""
    heads = {"self_attn.q_proj": "num_attention_heads", "self_attn.k_proj": "num_key_value_heads"}.get(name)
    if heads is None or config["model_type"] != "llama":
        return tensor
    rows, width = tensor.shape
    return tensor.reshape(config[heads], 2, -1, width).swapaxes(1, 2).reshape(rows, width)
