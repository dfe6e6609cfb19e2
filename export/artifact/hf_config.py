"""The `config.json` and `generation_config.json` by which Hugging Face's tools know an artifact's model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minimind_edge.runtime.artifact.generation_config import (
    GENERATION_CONFIG,
    GenerationConfig,
    ignored_settings,
    normalized,
)
from minimind_edge.runtime.artifact.paths import member

from .json_file import read_json

if TYPE_CHECKING:
    from minimind_edge.minimind.config import MiniMindConfig

ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "qwen3_moe": "Qwen3MoeForCausalLM",
    "minimind": "MiniMindForCausalLM",
}

SAMPLING_DEFAULTS: dict[str, Any] = {"do_sample": True, "temperature": 0.85, "top_p": 0.85, "top_k": 50}
"""The sampling settings of MiniMind2's own evaluation script."""

TOP_P_OF_MINIMIND3 = 0.95
"""The `top_p` of MiniMind-3's evaluation script, the only one of these settings that differs from MiniMind2's."""


OWN_YARN = ("yarn", "yarn-2025-10")
SAME_ANGLE = 1e-7
"""Radians per token that two formulas' frequencies may differ by: float32's rounding of the largest, 1."""


def stock_model_type(config: MiniMindConfig) -> str:
    """The `model_type` that computes exactly this architecture; `minimind` where there is no stock one.

    MiniMind2 dense is Llama; MiniMind-3 is Qwen3, with experts Qwen3-MoE. No stock type has MiniMind2's shared
    experts next to routed ones.
    """
    if not _has_stock_rope(config):
        return "minimind"
    if config.qk_norm:
        if not config.use_moe:
            return "qwen3"
        return "minimind" if config.n_shared_experts else "qwen3_moe"
    return "minimind" if config.use_moe else "llama"


def model_config(config: MiniMindConfig) -> dict[str, Any]:
    """The content of `config.json`, with the fields of both transformers 4 and transformers 5."""
    model_type = stock_model_type(config)
    if model_type == "minimind":
        return {
            "architectures": [ARCHITECTURES[model_type]],
            "model_type": model_type,
            **config.arguments(),
            "torch_dtype": "float32",
        }
    return {
        "architectures": [ARCHITECTURES[model_type]],
        "model_type": model_type,
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "head_dim": config.head_dim,
        "hidden_act": config.hidden_act,
        "max_position_embeddings": config.max_position_embeddings,
        "rms_norm_eps": config.rms_norm_eps,
        "rope_theta": config.rope_theta,
        "rope_scaling": _rope_scaling(config),
        "attention_bias": False,
        "attention_dropout": 0.0,
        "tie_word_embeddings": config.tie_word_embeddings,
        "bos_token_id": config.bos_token_id,
        "eos_token_id": config.eos_token_id,
        "pad_token_id": config.pad_token_id,
        "torch_dtype": "float32",
        "use_cache": True,
        **_family_fields(config, model_type),
    }


def _has_stock_rope(config: MiniMindConfig) -> bool:
    """Whether transformers computes MiniMind's rotation angles from what `_rope_scaling` writes."""
    from minimind_edge.minimind.rope import rope_frequencies

    scaling = config.rope_scaling
    if scaling is None or scaling["type"] not in OWN_YARN or not _acts(config, scaling):
        return True
    if scaling["type"] != "yarn":
        return False
    size = (config.head_dim, config.max_position_embeddings, config.rope_theta)
    theirs = rope_frequencies(*size, scaling | {"type": "yarn-transformers"})
    return bool((rope_frequencies(*size, scaling) - theirs).abs().max() < SAME_ANGLE)


def _acts(config: MiniMindConfig, scaling: Mapping[str, Any]) -> bool:
    """Whether the scaling changes any angle: MiniMind's YaRN scales only a context longer than the original one."""
    return bool(config.max_position_embeddings > scaling["original_max_position_embeddings"])


def _rope_scaling(config: MiniMindConfig) -> dict[str, Any] | None:
    """The RoPE scaling in Hugging Face's words; None where it changes no angle."""
    scaling = config.rope_scaling
    if scaling is None or (scaling["type"] in OWN_YARN and not _acts(config, scaling)):
        return None
    kind = "yarn" if scaling["type"] == "yarn-transformers" else scaling["type"]
    return {"rope_type": kind} | {key: value for key, value in scaling.items() if key != "type"}


def _family_fields(config: MiniMindConfig, model_type: str) -> dict[str, Any]:
    if model_type == "llama":
        return {"mlp_bias": False}
    if model_type == "qwen3":
        return {"use_sliding_window": False}
    return {
        "use_sliding_window": False,
        "num_experts": config.n_routed_experts,
        "num_experts_per_tok": config.num_experts_per_tok,
        "moe_intermediate_size": config.moe_intermediate_size,
        "norm_topk_prob": config.norm_topk_prob,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "router_aux_loss_coef": config.aux_loss_alpha,
        "output_router_logits": False,
    }


def generation_config(config: MiniMindConfig, folder: Path | None, max_length: int) -> dict[str, Any]:
    """The content of `generation_config.json`.

    Args:
        config: The architecture, which holds the special token ids.
        folder: The checkpoint's folder; a `generation_config.json` there replaces the default sampling settings.
        max_length: The artifact's context length in tokens.
    """
    ids = {
        "bos_token_id": config.bos_token_id,
        "eos_token_id": config.eos_token_id,
        "pad_token_id": config.pad_token_id,
    }
    return ids | (_given_generation(folder) or _sampling_defaults(config)) | {"max_length": max_length}


def generation_notes(folder: Path) -> tuple[str, ...]:
    """Notes for the user about settings in the checkpoint's `generation_config.json` that the runtime lacks.

    Args:
        folder: The checkpoint's folder.

    Raises:
        ArtifactError: See `generation_config`.
    """
    ignored = ignored_settings(_given_generation(folder) or {})
    if not ignored:
        return ()
    return (f"warning: {folder / GENERATION_CONFIG} has {', '.join(ignored)}, which minimind-run does not do",)


def _sampling_defaults(config: MiniMindConfig) -> dict[str, Any]:
    return SAMPLING_DEFAULTS | ({"top_p": TOP_P_OF_MINIMIND3} if config.generation == "minimind3" else {})


def _given_generation(folder: Path | None) -> dict[str, Any] | None:
    """The settings that the checkpoint's author chose; None where transformers merely derived the file from the model.

    Raises:
        ArtifactError: The file is one that the runtime would refuse, or a link that leads out of the folder.
    """
    file = None if folder is None else member(folder, GENERATION_CONFIG)
    if file is None:
        return None
    given = normalized(read_json(file))
    GenerationConfig.parse(given, where=str(file))
    if given.get("_from_model_config"):
        return None
    return {key: value for key, value in given.items() if value is not None and key != "transformers_version"}
