"""The description of a model's architecture that the manifest and `inspect` share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minimind_edge.minimind import MiniMindConfig


def describe_architecture(config: MiniMindConfig) -> dict[str, Any]:
    """Describe a model by its config alone, in values that JSON holds.

    Args:
        config: The architecture.

    Returns:
        Names and widths as in the config; `rope` with `theta` and `yarn` (the scaling in force, None for plain RoPE);
        `moe` (None for a dense model); `parameters` with the counts `total` and `active` (the parameters that one
        token is multiplied by). A tied head is counted once.
    """
    return {
        "generation": config.generation,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "head_dim": config.head_dim,
        "vocab_size": config.vocab_size,
        "intermediate_size": config.intermediate_size,
        "hidden_act": config.hidden_act,
        "rms_norm_eps": config.rms_norm_eps,
        "qk_norm": config.qk_norm,
        "tie_word_embeddings": config.tie_word_embeddings,
        "max_position_embeddings": config.max_position_embeddings,
        "rope": {"theta": config.rope_theta, "yarn": config.rope_scaling},
        "moe": _describe_moe(config) if config.use_moe else None,
        "parameters": {
            "total": count_parameters(config, config.n_routed_experts),
            "active": count_parameters(config, config.num_experts_per_tok),
        },
    }


def _describe_moe(config: MiniMindConfig) -> dict[str, Any]:
    return {
        "n_routed_experts": config.n_routed_experts,
        "n_shared_experts": config.n_shared_experts,
        "num_experts_per_tok": config.num_experts_per_tok,
        "moe_intermediate_size": config.moe_intermediate_size,
        "normalizes_expert_weights": config.normalizes_expert_weights,
    }


def count_parameters(config: MiniMindConfig, routed_experts: int) -> int:
    """Count the parameters with `routed_experts` experts in each block; a dense model ignores that number."""
    embeddings = config.vocab_size * config.hidden_size * (1 if config.tie_word_embeddings else 2)
    norms = 2 * config.hidden_size
    block = norms + _count_attention(config) + _count_feed_forward(config, routed_experts)
    return embeddings + config.num_hidden_layers * block + config.hidden_size


def _count_attention(config: MiniMindConfig) -> int:
    query_and_output = 2 * config.num_attention_heads * config.head_dim * config.hidden_size
    key_and_value = 2 * config.num_key_value_heads * config.head_dim * config.hidden_size
    return query_and_output + key_and_value + (2 * config.head_dim if config.qk_norm else 0)


def _count_feed_forward(config: MiniMindConfig, routed_experts: int) -> int:
    if not config.use_moe:
        return 3 * config.hidden_size * config.intermediate_size
    router = config.n_routed_experts * config.hidden_size
    expert = 3 * config.hidden_size * config.moe_intermediate_size
    return router + (routed_experts + config.n_shared_experts) * expert


def kv_values_per_token(config: MiniMindConfig) -> int:
    """Count the numbers that the KV cache holds for one token: its key and its value in every block."""
    return 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
