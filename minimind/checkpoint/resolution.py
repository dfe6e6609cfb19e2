"""Resolving a checkpoint's configuration from its tensors, the given fields, and its generation's defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..config import MiniMindConfig
from ..errors import ConfigError
from .config_fields import GivenConfig
from .generation import HUGGING_FACE_DEFAULTS, MINIMIND2, MINIMIND2_LEGACY, MINIMIND3, V1, Generation
from .head_layout import HEAD_FIELDS, find_head_layout
from .inference import EVIDENCE, Inference

MOE_FIELDS = frozenset(
    {
        "n_routed_experts",
        "n_shared_experts",
        "num_experts_per_tok",
        "moe_intermediate_size",
        "aux_loss_alpha",
        "seq_aux",
        "norm_topk_prob",
    }
)


@dataclass(frozen=True)
class Resolution:
    """A checkpoint's configuration, with the source of each of its fields.

    Attributes:
        config: The complete configuration.
        generation: Name of the checkpoint's generation.
        inferred: Fields that the tensors show.
        given: Fields that only a configuration gives.
        assumed: Fields that are the generation's defaults.
        notes: Assumptions that the tensors leave open, one line each.
    """

    config: MiniMindConfig
    generation: str
    inferred: dict[str, Any]
    given: dict[str, Any]
    assumed: dict[str, Any]
    notes: tuple[str, ...] = ()


def resolve_config(inference: Inference, given: GivenConfig, legacy: bool) -> Resolution:
    """Combine inferred, given and assumed fields.

    Args:
        inference: Facts that the tensors show.
        given: Fields that configurations give.
        legacy: Whether the tensors have the names of v1 and MiniMind2-legacy.

    Raises:
        ConfigError: A configuration contradicts the tensors, or neither decides between v1 and MiniMind2-legacy.
        CheckpointError: The assumed number of heads does not fit the tensors.
    """
    inferred, told = dict(inference.fields), _applicable(given, inference.fields["use_moe"])
    if told.get("tie_word_embeddings") is False:
        del inferred["tie_word_embeddings"]  # two tensors may be equal without being one
    _require_agreement(inferred, told, given.sources)
    generation = _generation_of(inference, told, legacy)
    defaults = _defaults(generation, given.model_type, inferred["use_moe"])
    known = {name: value for name, value in (inferred | told).items() if name in HEAD_FIELDS}
    heads = find_head_layout(inference.query_rows, inference.key_rows, known, defaults.pop("num_attention_heads"))
    (inferred if heads.certain else defaults).update(heads.fields)
    told = {name: value for name, value in told.items() if name not in inferred}
    assumed = {name: value for name, value in defaults.items() if name not in told}
    config = _config(assumed | told | inferred)
    notes = _ambiguity(generation, config) if legacy and "rope_theta" in assumed else ()
    return Resolution(config, generation.name, inferred, told, assumed, notes)


def _ambiguity(generation: Generation, config: MiniMindConfig) -> tuple[str, ...]:
    """The warning where names fit v1 and MiniMind2-legacy, and the head counts are neither one's default."""
    other = MINIMIND2_LEGACY if generation is V1 else V1
    theta = other.defaults["rope_theta"]
    return (
        f"warning: its tensors have the names of v1 and of minimind2-legacy; {generation.name} is assumed from the "
        f"shapes (rope_theta {config.rope_theta:g}, {config.num_attention_heads} heads). If it is {other.name}: "
        f'--config FILE with {{"rope_theta": {theta:g}, "n_heads": {other.num_attention_heads}}}',
    )


def _applicable(given: GivenConfig, moe: bool) -> dict[str, Any]:
    """The given fields that apply to a dense model or to a mixture of experts."""
    told = dict(given.fields)
    if not moe:
        return {name: value for name, value in told.items() if name not in MOE_FIELDS}
    if "intermediate_size" in told and given.model_type != "qwen3_moe":
        told.setdefault("moe_intermediate_size", told["intermediate_size"])  # MiniMind's experts share the dense width
    return told


def _require_agreement(inferred: Mapping[str, Any], told: Mapping[str, Any], sources: Mapping[str, str]) -> None:
    for name, value in told.items():
        if name in inferred and inferred[name] != value:
            source = sources.get(name, "config")
            raise ConfigError(
                f"{source}: {name} {value!r} contradicts the tensors, which say {inferred[name]!r} ({EVIDENCE[name]})"
            )


def _generation_of(inference: Inference, told: Mapping[str, Any], legacy: bool) -> Generation:
    if not legacy:
        return MINIMIND3 if inference.fields["qk_norm"] else MINIMIND2
    theta = told.get("rope_theta")
    share = inference.key_rows / inference.fields["hidden_size"]
    by_share = {0.5: V1, 0.25: MINIMIND2_LEGACY}.get(share)
    if by_share is None and (theta is None or not any(name in told for name in HEAD_FIELDS)):
        raise ConfigError(
            f"attention.wk has {inference.key_rows} rows of width {inference.fields['hidden_size']}, neither v1's half "
            "nor MiniMind2-legacy's quarter; give n_heads and rope_theta in a config"
        )
    if by_share is None or theta is not None:
        return V1 if theta == V1.defaults["rope_theta"] else MINIMIND2_LEGACY
    return by_share


def _defaults(generation: Generation, model_type: str | None, moe: bool) -> dict[str, Any]:
    defaults = {"num_attention_heads": generation.num_attention_heads, **generation.defaults}
    if moe:
        defaults |= generation.moe_defaults
    written_by = HUGGING_FACE_DEFAULTS.get(model_type or "", {})
    return defaults | written_by


def _config(fields: dict[str, Any]) -> MiniMindConfig:
    if fields["use_moe"]:
        fields.setdefault("intermediate_size", fields["moe_intermediate_size"])
    return MiniMindConfig(**fields)
