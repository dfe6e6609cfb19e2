"""Inferring a checkpoint's architecture from the names and shapes of its tensors."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import torch

from ..errors import CheckpointError
from .names import EMBEDDING, HEAD, NamedTensors

LAYER = re.compile(r"model\.layers\.(\d{1,6})\.")
EXPERT = re.compile(r"model\.layers\.0\.mlp\.experts\.(\d{1,6})\.")
SHARED_EXPERT = re.compile(r"model\.layers\.0\.mlp\.shared_experts\.(\d{1,6})\.")
FIRST = "model.layers.0"

# The tensor that shows each field, for messages.
EVIDENCE = {
    "vocab_size": EMBEDDING,
    "hidden_size": EMBEDDING,
    "num_hidden_layers": "model.layers.*",
    "qk_norm": "self_attn.q_norm.weight",
    "tie_word_embeddings": f"{HEAD} against {EMBEDDING}",
    "use_moe": "mlp.gate.weight",
    "head_dim": f"{FIRST}.self_attn.q_norm.weight",
    "intermediate_size": f"{FIRST}.mlp.gate_proj.weight",
    "n_routed_experts": f"{FIRST}.mlp.gate.weight",
    "n_shared_experts": f"{FIRST}.mlp.shared_experts",
    "moe_intermediate_size": f"{FIRST}.mlp.experts.0.gate_proj.weight",
}


@dataclass(frozen=True)
class Inference:
    """The facts of an architecture that the tensors alone show.

    Attributes:
        fields: Fields of `MiniMindConfig`; `head_dim` only where q_norm shows it, and no head counts.
        query_rows: Number of rows of q_proj, query heads times head_dim.
        key_rows: Number of rows of k_proj, key heads times head_dim.
    """

    fields: dict[str, Any]
    query_rows: int
    key_rows: int


def infer_architecture(named: NamedTensors) -> Inference:
    """Read the architecture off the tensors; the generation's defaults complete it.

    Raises:
        CheckpointError: A tensor that shows the architecture is missing or misshapen.
    """
    vocab_size, hidden_size = _matrix(named, EMBEDDING)
    query_rows, _ = _matrix(named, f"{FIRST}.self_attn.q_proj.weight")
    key_rows, _ = _matrix(named, f"{FIRST}.self_attn.k_proj.weight")
    fields: dict[str, Any] = {
        "vocab_size": vocab_size,
        "hidden_size": hidden_size,
        "num_hidden_layers": _count_layers(named),
        "qk_norm": any(name.endswith(".self_attn.q_norm.weight") for name in named.tensors),
        "tie_word_embeddings": _is_tied(named.tensors),
        "use_moe": any(name.endswith(".mlp.gate.weight") or ".mlp.experts." in name for name in named.tensors),
    }
    fields |= _feed_forward(named, moe=fields["use_moe"])
    if fields["qk_norm"]:
        fields["head_dim"] = _norm_length(named, f"{FIRST}.self_attn.q_norm.weight")
    return Inference(fields, query_rows, key_rows)


def _feed_forward(named: NamedTensors, moe: bool) -> dict[str, Any]:
    if not moe:
        return {"intermediate_size": _matrix(named, f"{FIRST}.mlp.gate_proj.weight")[0]}
    return {
        "n_routed_experts": _matrix(named, f"{FIRST}.mlp.gate.weight")[0],
        "n_shared_experts": len(_indices(named, SHARED_EXPERT)),
        "moe_intermediate_size": _matrix(named, f"{FIRST}.mlp.experts.0.gate_proj.weight")[0],
    }


def _count_layers(named: NamedTensors) -> int:
    """The number of layers; a gap in their indices is a missing layer."""
    found = _indices(named, LAYER)
    gap = next((index for index in range(len(found)) if index not in found), None)
    if gap is not None:
        missing = named.file_name(f"model.layers.{gap}.input_layernorm.weight")
        raise CheckpointError(f"missing tensor {missing}: the checkpoint has layer {max(found)}, but no layer {gap}")
    return len(found)


def _indices(named: NamedTensors, pattern: re.Pattern[str]) -> set[int]:
    return {int(match[1]) for name in named.tensors if (match := pattern.match(name))}


def _is_tied(tensors: dict[str, torch.Tensor]) -> bool:
    head = tensors.get(HEAD)
    return head is None or same_values(head, tensors[EMBEDDING])


def same_values(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors of any dtypes hold the same numbers."""
    if one.shape != other.shape:
        return False
    return torch.equal(one, other) if one.dtype == other.dtype else torch.equal(one.float(), other.float())


def _tensor(named: NamedTensors, name: str) -> torch.Tensor:
    if name not in named.tensors:
        raise CheckpointError(f"missing tensor {named.file_name(name)}; the checkpoint is incomplete")
    return named.tensors[name]


def _matrix(named: NamedTensors, name: str) -> tuple[int, int]:
    tensor = _tensor(named, name)
    if tensor.dim() != 2 or 0 in tensor.shape:
        raise CheckpointError(f"tensor {named.file_name(name)} has shape {list(tensor.shape)}; expected a matrix")
    return tensor.shape[0], tensor.shape[1]


def _norm_length(named: NamedTensors, name: str) -> int:
    tensor = _tensor(named, name)
    if tensor.dim() != 1 or 0 in tensor.shape:
        raise CheckpointError(f"tensor {named.file_name(name)} has shape {list(tensor.shape)}; expected a vector")
    return tensor.shape[0]
