"""Translating RoPE settings: MiniMind's, and those of transformers 4 (`rope_scaling`) and 5 (`rope_parameters`)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..rope_scaling import GREATEST, LEAST, SCALINGS, YARN_OF_OCTOBER_2025, complete_scaling, is_number

ROPE_KEYS = frozenset(
    {
        "rope_theta",
        "rope_scaling",
        "rope_parameters",
        "inference_rope_scaling",
        "rope_scaling_parameters",
        "yarn_parameters",
    }
)
PARAMETERS = frozenset(name for scaling in SCALINGS.values() for name in scaling) - {"type"}
OF_YARN = frozenset({"partial_rotary_factor", "mscale", "mscale_all_dim", "truncate"})
"""The parameters that are checked apart from `SCALINGS`, and that only YaRN reads."""

OCTOBER_2025 = {name: value for name, value in YARN_OF_OCTOBER_2025.items() if name != "type"}
ANOTHER_WAY = "export the model from its own code (--model FILE.py:CLASS)"


def translate_rope(
    config: Mapping[str, Any], model_type: str | None, source: str, default_positions: int = 32768
) -> tuple[dict[str, Any], list[str]]:
    """The fields `rope_theta`, `inference_rope_scaling` and `rope_scaling_parameters` that `config` gives, and notes.

    Args:
        config: A configuration in any generation's names.
        model_type: Model type of the configuration; it decides between transformers' YaRN and MiniMind's own.
        source: Path or name of the configuration, for messages.
        default_positions: Default of `max_position_embeddings` for the model type.

    Raises:
        ConfigError: Settings contradict each other, or a scaling is not supported.
    """
    scaling = _scaling(config, source)
    fields: dict[str, Any] = {}
    theta = _theta(config, scaling, source)
    if theta is not None:
        fields["rope_theta"] = theta
    switch = config.get("inference_rope_scaling")
    if switch is not None and not isinstance(switch, bool):
        raise ConfigError(f"{source}: inference_rope_scaling must be true or false, found {switch!r}")
    kind = _kind(scaling, source)
    notes = _unread(scaling, kind, model_type, source)
    if kind == "dynamic":
        notes.append(
            f"note: {Path(source).name}: RoPE of type 'dynamic' changes with the text's length only past "
            "max_position_embeddings, where this model's positions end"
        )
    if switch is not None or scaling or "rope_scaling" in config:
        fields["inference_rope_scaling"] = kind != "default" if switch is None else switch
    own = _object(config, "rope_scaling_parameters", source) or _object(config, "yarn_parameters", source)
    given = (
        own if kind == "default" else _given(scaling, kind, model_type, source, _positions(config, default_positions))
    )
    if given:
        try:
            fields["rope_scaling_parameters"] = complete_scaling(given)
        except ConfigError as error:
            raise ConfigError(f"{source}: {error}") from error
    return fields, notes


def _kind(scaling: Mapping[str, Any], source: str) -> str:
    """The type of the scaling, `default` for none.

    Raises:
        ConfigError: The type is not supported.
    """
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind not in ["default", *SCALINGS]:
        supported = ", ".join(SCALINGS)
        raise ConfigError(
            f"{source}: rope_scaling of type {kind!r} is not supported (supported: {supported}); {ANOTHER_WAY}"
        )
    partial = scaling.get("partial_rotary_factor", 1.0)
    if partial != 1.0:
        raise ConfigError(f"{source}: RoPE with partial_rotary_factor {partial!r} is not supported; {ANOTHER_WAY}")
    return str(kind)


def _unread(scaling: Mapping[str, Any], kind: str, model_type: str | None, source: str) -> list[str]:
    """The note on parameters that the type, as in transformers, does not read; in MiniMind's config they are errors."""
    read = {"type", "rope_type", "rope_theta", *SCALINGS.get(kind, ()), *OF_YARN}
    if kind == "default" and model_type in (None, "minimind"):
        read |= PARAMETERS  # a user who turns YaRN off may keep its parameters
    unread = [name for name in scaling if name not in read]
    if not unread:
        return []
    if model_type in (None, "minimind"):
        raise ConfigError(f"{source}: rope_scaling of type {kind!r} has {unread[0]!r}, which is unknown; {ANOTHER_WAY}")
    return [f"note: {Path(source).name}: rope_scaling of type {kind!r} does not read {', '.join(map(repr, unread))}"]


def _given(
    scaling: Mapping[str, Any], kind: str, model_type: str | None, source: str, positions: float
) -> dict[str, Any]:
    """The parameters of the scaling; those of YaRN by the convention of the model type."""
    given = {name: value for name, value in scaling.items() if name in SCALINGS[kind] and value is not None}
    given["type"] = kind
    if kind == "llama3" and "original_max_position_embeddings" not in given:
        given["original_max_position_embeddings"] = positions
    if kind not in {"yarn", "yarn-transformers"}:
        return given
    if model_type in (None, "minimind") and kind == "yarn":
        if {name: value for name, value in given.items() if name != "type"} == OCTOBER_2025:
            return dict(YARN_OF_OCTOBER_2025)
        if "truncate" in scaling or scaling.get("mscale") is not None or scaling.get("mscale_all_dim") is not None:
            kind = "yarn-transformers"  # MiniMind's own YaRN lacks these parameters
        else:
            return given
    return _as_transformers(scaling, source, positions)


def _as_transformers(scaling: Mapping[str, Any], source: str, positions: float) -> dict[str, Any]:
    """YaRN's parameters with transformers' defaults for the original context, the factor and the attention factor."""
    names = SCALINGS["yarn-transformers"]
    given = {name: scaling[name] for name in names if scaling.get(name) is not None} | {"type": "yarn-transformers"}
    original = given.setdefault("original_max_position_embeddings", positions)
    if "factor" in scaling and scaling["factor"] is None and _is_number_above(0, original):
        given["factor"] = positions / original
    if "attention_factor" not in given and _is_number_above(0, given.get("factor")):
        given["attention_factor"] = _attention_factor(scaling, given["factor"], source)
    return given


def _attention_factor(scaling: Mapping[str, Any], factor: float, source: str) -> float:
    """The attention factor of Peng et al. 2023, "YaRN", equation 22; with both `mscale`, DeepSeek's ratio of two."""
    both = [scaling.get(name) for name in ("mscale", "mscale_all_dim")]
    for name, value in zip(("mscale", "mscale_all_dim"), both, strict=True):
        if value is not None and not _is_number_above(-GREATEST, value):
            raise ConfigError(f"{source}: rope_scaling's {name} must be a number, found {value!r}")
    one, all_dim = both if all(both) else (1.0, None)

    def scaled(weight: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0

    return scaled(one or 1.0) if all_dim is None else scaled(one or 1.0) / (scaled(all_dim) or LEAST)


def _positions(config: Mapping[str, Any], default: int) -> float:
    """The original context that transformers assumes where a scaling does not give it, in tokens."""
    given = config.get("max_position_embeddings")
    return given if is_number(given) and given > 0 else default


def _scaling(config: Mapping[str, Any], source: str) -> dict[str, Any]:
    """The scaling dict from either of the two keys; null values are left out, except for a factor."""
    found: dict[str, Any] = {}
    for key in ("rope_scaling", "rope_parameters"):
        value = _object(config, key, source)
        found |= {name: item for name, item in value.items() if item is not None or name == "factor"}
    if "partial_rotary_factor" in config and config["partial_rotary_factor"] is not None:
        found.setdefault("partial_rotary_factor", config["partial_rotary_factor"])
    return found


def _object(config: Mapping[str, Any], key: str, source: str) -> Mapping[str, Any]:
    value = config.get(key)
    if value is not None and not isinstance(value, Mapping):
        raise ConfigError(f"{source}: {key} must be an object, found {value!r}")
    return value or {}


def _theta(config: Mapping[str, Any], scaling: Mapping[str, Any], source: str) -> float | None:
    outer, inner = config.get("rope_theta"), scaling.get("rope_theta")
    for value in (outer, inner):
        if value is not None and not _is_number_above(1, value):
            raise ConfigError(f"{source}: rope_theta must be a number above 1, found {value!r}")
    if outer is not None and inner is not None and outer != inner:
        raise ConfigError(f"{source}: rope_theta {outer} contradicts {inner} in rope_parameters")
    theta = inner if outer is None else outer
    return None if theta is None else float(theta)


def _is_number_above(least: float, value: Any) -> bool:
    return is_number(value) and value > least
