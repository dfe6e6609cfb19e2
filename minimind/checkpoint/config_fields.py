"""Translating configurations: from the field names of any generation and of Hugging Face to `MiniMindConfig`'s."""

from __future__ import annotations

import difflib
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers.activations import ACT2FN

from ..errors import ConfigError
from ..rope_scaling import is_number
from .generation import HUGGING_FACE_DEFAULTS
from .ignored_keys import IGNORED
from .rope_fields import ANOTHER_WAY, ROPE_KEYS, translate_rope

INTEGERS = frozenset(
    {
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "vocab_size",
        "intermediate_size",
        "max_position_embeddings",
        "n_routed_experts",
        "n_shared_experts",
        "num_experts_per_tok",
        "moe_intermediate_size",
        "bos_token_id",
        "pad_token_id",
    }
)
NUMBERS = frozenset({"rms_norm_eps", "dropout", "aux_loss_alpha"})
FLAGS = frozenset({"flash_attn", "qk_norm", "tie_word_embeddings", "use_moe", "seq_aux", "norm_topk_prob"})
OWN_NAMES = INTEGERS | NUMBERS | FLAGS | {"hidden_act", "eos_token_id"}

ALIASES = {
    "dim": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "n_kv_heads": "num_key_value_heads",
    "hidden_dim": "intermediate_size",
    "norm_eps": "rms_norm_eps",
    "max_seq_len": "max_position_embeddings",
    "num_experts": "n_routed_experts",
    "num_local_experts": "n_routed_experts",
    "router_aux_loss_coef": "aux_loss_alpha",
}

# What a model type says that its tensors say too.
MODEL_TYPES: dict[str, dict[str, Any]] = {
    "minimind": {},
    "llama": {"qk_norm": False, "use_moe": False},
    "qwen3": {"qk_norm": True, "use_moe": False},
    "qwen3_moe": {"qk_norm": True, "use_moe": True, "n_shared_experts": 0},
}

# Keys that have one value here; another would change what the model computes.
FIXED: dict[str, Any] = {
    "attention_bias": False,
    "mlp_bias": False,
    "use_sliding_window": False,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "quantization_config": None,
    "is_encoder_decoder": False,
    "add_cross_attention": False,
    "scoring_func": "softmax",
}

# Keys of other model types that change what a model computes, with the value at which they don't. A Hugging Face
# configuration may have any other key: transformers' own classes keep it and never read it.
CHANGING: dict[str, Any] = {
    "alibi": False,
    "attention_multiplier": None,
    "attn_logit_softcapping": None,
    "clip_qkv": None,
    "embedding_multiplier": 1.0,
    "final_logit_softcapping": None,
    "logit_scale": 1.0,
    "logits_scaling": 1.0,
    "no_rope_layers": None,
    "parallel_attn": False,
    "position_embedding_type": "rope",
    "quantization": None,
    "query_pre_attn_scalar": None,
    "residual_multiplier": 1.0,
    "rope_interleaved": False,
    "rotary_pct": 1.0,
    "use_alibi": False,
    "use_mrope": False,
    "use_parallel_residual": False,
}

LARGEST_INTEGER = 2**31 - 1
SHOWN_KEYS = 8

KNOWN = OWN_NAMES | ALIASES.keys() | FIXED.keys() | ROPE_KEYS | IGNORED | {"model_type", "layer_types"}


@dataclass(frozen=True)
class GivenConfig:
    """The configuration of a model as it was given, in `MiniMindConfig`'s field names.

    Attributes:
        fields: Value of each field; a field that was left out or null is absent.
        sources: Source of each field's value, for messages.
        model_type: Hugging Face's name of the architecture, or None.
        notes: Notes for the user about keys that were not read, one line each.
    """

    fields: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    model_type: str | None = None
    notes: tuple[str, ...] = ()

    def overridden_by(self, other: GivenConfig) -> GivenConfig:
        """A configuration with the fields of `other`, completed by those of this one."""
        return GivenConfig(
            self.fields | other.fields,
            self.sources | other.sources,
            other.model_type or self.model_type,
            self.notes + other.notes,
        )


def translate_config(config: Mapping[str, Any], source: str) -> GivenConfig:
    """Translate a configuration's fields; null means left out.

    Args:
        config: Fields by the names of any MiniMind generation, or of Hugging Face's Llama, Qwen3 or Qwen3Moe.
        source: Path or name of the configuration, for messages.

    Raises:
        ConfigError: A key is unknown, a value has the wrong type or range, two keys contradict each other, or a value
            requires a computation that MiniMind lacks.
    """
    model_type = config.get("model_type")
    if model_type is not None and model_type not in list(MODEL_TYPES):
        supported = ", ".join(MODEL_TYPES)
        raise ConfigError(f"{source}: model_type {model_type!r} is not supported; MiniMind checkpoints are {supported}")
    notes = _unknown_keys(config, model_type, source)
    _require_fixed(config, source)
    positions = HUGGING_FACE_DEFAULTS.get(model_type or "", {}).get("max_position_embeddings", 32768)
    rope, rope_notes = translate_rope(config, model_type, source, positions)
    fields = MODEL_TYPES.get(model_type or "minimind", {}) | rope
    for key, value in config.items():
        name = ALIASES.get(key, key)
        if value is None or name not in OWN_NAMES:
            continue
        if key == "max_seq_len" and config.get(name) is not None:
            continue  # upstream's converter adds its own training length to the model's context
        checked = _checked(name, value, f"{source}: {key}")
        if fields.setdefault(name, checked) != checked:
            raise ConfigError(f"{source}: {key} {checked} contradicts {name} {fields[name]}, which another key gives")
    return GivenConfig(fields, dict.fromkeys(fields, source), model_type, (*notes, *rope_notes))


def _unknown_keys(config: Mapping[str, Any], model_type: str | None, source: str) -> list[str]:
    """The note on unknown keys of a Hugging Face configuration; in MiniMind's own they are errors.

    Raises:
        ConfigError: A key is unknown, or it changes what the model computes.
    """
    unknown = [str(key) for key in config if key not in KNOWN]
    if model_type not in HUGGING_FACE_DEFAULTS:
        if unknown:
            nearest = difflib.get_close_matches(unknown[0][:60], sorted(KNOWN), n=1, cutoff=0.5)
            hint = f"did you mean {nearest[0]!r}?" if nearest else "see MiniMindConfig for the known ones"
            raise ConfigError(f"{source}: unknown key {unknown[0]!r}; {hint}")
        return []
    for key, harmless in CHANGING.items():
        value = config.get(key)
        if value is not None and value != harmless:
            found = textwrap.shorten(repr(value), 60)
            raise ConfigError(
                f"{source}: {key} {found} changes what the model computes and is not supported; {ANOTHER_WAY}"
            )
    harmless_keys = [key for key in unknown if key not in CHANGING]
    if not harmless_keys:
        return []
    more = f" and {len(harmless_keys) - SHOWN_KEYS} more" if len(harmless_keys) > SHOWN_KEYS else ""
    shown = ", ".join(textwrap.shorten(key, 60) for key in harmless_keys[:SHOWN_KEYS])
    return [f"note: {Path(source).name} has keys that {model_type} does not read: {shown}{more}"]


def _require_fixed(config: Mapping[str, Any], source: str) -> None:
    for key, only in FIXED.items():
        value = config.get(key, only)
        if value is not None and value != only:
            found = textwrap.shorten(repr(value), 60)
            raise ConfigError(f"{source}: {key} {found} is not supported; MiniMind has {only!r} only")
    kinds = config.get("layer_types") or []
    if not isinstance(kinds, list) or any(kind != "full_attention" for kind in kinds):
        found = textwrap.shorten(repr(kinds), 60)
        raise ConfigError(f"{source}: layer_types {found} is not supported; MiniMind has 'full_attention' only")


def _checked(name: str, value: Any, label: str) -> Any:
    """The value, checked and converted to the type of its field."""
    if name == "eos_token_id" and isinstance(value, list) and value:
        return [_integer(item, label, 0) for item in value]
    if name in {"eos_token_id", "bos_token_id", "pad_token_id"}:
        return _integer(value, label, 0)
    if name == "n_shared_experts":  # a flag in v1 and MiniMind2-legacy
        return _integer(int(value) if isinstance(value, bool) else value, label, 0)
    if name in INTEGERS:
        return _integer(value, label, 1)
    if name in NUMBERS:
        return _number(value, label, positive=name == "rms_norm_eps")
    expected: type = bool if name in FLAGS else str
    if not isinstance(value, expected):
        raise ConfigError(f"{label} must be {'true or false' if expected is bool else 'a string'}, found {value!r}")
    if name == "hidden_act" and value not in ACT2FN:
        raise ConfigError(f"{label} {value!r} is unknown; MiniMind uses 'silu'")
    return value


def _integer(value: Any, label: str, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{label} must be an integer of at least {least}, found {value!r}")
    if value > LARGEST_INTEGER:
        raise ConfigError(f"{label} must be an integer of at most {LARGEST_INTEGER}")
    return value


def _number(value: Any, label: str, positive: bool) -> float:
    if not is_number(value) or not (value > 0 if positive else value >= 0):
        raise ConfigError(f"{label} must be a {'positive' if positive else 'non-negative'} number, found {value!r}")
    return float(value)
