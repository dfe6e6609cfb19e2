"""The generations of MiniMind, with the defaults that their tensors do not show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Generation:
    """The training defaults of one generation, for fields that no tensor's shape shows.

    Attributes:
        name: Name of the generation in reports and manifests.
        num_attention_heads: Number of query heads.
        defaults: Further fields of `MiniMindConfig`.
        moe_defaults: Further fields of a mixture of experts.
    """

    name: str
    num_attention_heads: int
    defaults: Mapping[str, Any]
    moe_defaults: Mapping[str, Any]


def _defaults(rope_theta: float, rms_norm_eps: float, max_position_embeddings: int) -> dict[str, Any]:
    return {
        "rope_theta": rope_theta,
        "inference_rope_scaling": False,
        "rms_norm_eps": rms_norm_eps,
        "max_position_embeddings": max_position_embeddings,
        "hidden_act": "silu",
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }


TWO_OF_MANY = {"num_experts_per_tok": 2, "norm_topk_prob": True, "aux_loss_alpha": 0.01, "seq_aux": True}
ONE_OF_MANY = {"num_experts_per_tok": 1, "norm_topk_prob": True, "aux_loss_alpha": 5e-4, "seq_aux": False}

V1 = Generation("v1", 16, _defaults(1e4, 1e-5, 512), TWO_OF_MANY)
MINIMIND2_LEGACY = Generation("minimind2-legacy", 8, _defaults(1e6, 1e-5, 8192), TWO_OF_MANY)
MINIMIND2 = Generation("minimind2", 8, _defaults(1e6, 1e-5, 32768), TWO_OF_MANY)
MINIMIND3 = Generation("minimind3", 8, _defaults(1e6, 1e-6, 32768), ONE_OF_MANY)

# What Hugging Face's own classes take where a config.json of theirs leaves a field out.
HUGGING_FACE_DEFAULTS: dict[str, dict[str, Any]] = {
    "llama": {
        "num_attention_heads": 32,
        "rope_theta": 1e4,
        "rms_norm_eps": 1e-6,
        "max_position_embeddings": 2048,
    },
    "qwen3": {"rope_theta": 1e4, "rms_norm_eps": 1e-6, "max_position_embeddings": 32768},
    "qwen3_moe": {
        "rope_theta": 1e4,
        "rms_norm_eps": 1e-6,
        "max_position_embeddings": 32768,
        "num_experts_per_tok": 8,
        "norm_topk_prob": False,
    },
}
