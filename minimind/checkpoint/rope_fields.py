"""Translation of RoPE settings: MiniMind's, and those of transformers 4 (`rope_scaling`) and 5 (`rope_parameters`)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..config import MiniMindConfig
from ..errors import ConfigError

ROPE_KEYS = frozenset({"rope_theta", "rope_scaling", "rope_parameters", "inference_rope_scaling", "yarn_parameters"})
YARN_NUMBERS = ("factor", "original_max_position_embeddings", "beta_fast", "beta_slow", "attention_factor")
SCALING_KEYS = frozenset({*YARN_NUMBERS, "type", "rope_type", "rope_theta", "partial_rotary_factor", "truncate"})


def translate_rope(config: Mapping[str, Any], model_type: str | None, source: str) -> dict[str, Any]:
    """`rope_theta`, `inference_rope_scaling` and `yarn_parameters`, as far as `config` gives them.

    Args:
        config: A configuration in any generation's names.
        model_type: Its model type. Hugging Face's types leave YaRN's attention factor to the paper's formula, MiniMind
            to 1.
        source: Where the configuration comes from, for messages.

    Raises:
        ConfigError: Settings that contradict each other, or a kind of scaling other than YaRN.
    """
    scaling = _scaling(config, source)
    fields: dict[str, Any] = {}
    theta = _theta(config, scaling, source)
    if theta is not None:
        fields["rope_theta"] = theta
    switch = config.get("inference_rope_scaling")
    if switch is not None and not isinstance(switch, bool):
        raise ConfigError(f"{source}: inference_rope_scaling must be true or false, found {switch!r}")
    yarn = _yarn(scaling, model_type, source)
    if switch is not None or scaling or "rope_scaling" in config:
        fields["inference_rope_scaling"] = bool(yarn) if switch is None else switch
    own = _yarn_numbers(_object(config, "yarn_parameters", source), source)
    if yarn or own:
        fields["yarn_parameters"] = own | yarn
    return fields


def require_same_yarn(config: MiniMindConfig, source: str) -> None:
    """Refuse the YaRN settings of a Hugging Face config under which MiniMind's YaRN computes other angles.

    MiniMind stretches only a context longer than the original one, and ends the ramp at the last pair D/2 - 1 where
    Hugging Face ends it at D - 1.

    Raises:
        ConfigError: The two differ.
    """
    yarn = config.rope_scaling
    if yarn is None:
        return
    original, dim = yarn["original_max_position_embeddings"], config.head_dim
    if config.max_position_embeddings <= original:
        raise ConfigError(
            f"{source}: YaRN with max_position_embeddings {config.max_position_embeddings} is not supported; "
            f"expected more than the original {original}"
        )
    turns = original / (yarn["beta_slow"] * 2 * math.pi)
    if math.ceil(dim * math.log(turns) / (2 * math.log(config.rope_theta))) > dim // 2 - 1:
        raise ConfigError(
            f"{source}: YaRN from an original context of {original} at rope_theta {config.rope_theta:g} is not "
            "supported; expected every pair to need interpolation at the end of the ramp"
        )


def _scaling(config: Mapping[str, Any], source: str) -> dict[str, Any]:
    """The scaling dict, from whichever of the two keys has one."""
    found: dict[str, Any] = {}
    for key in ("rope_scaling", "rope_parameters"):
        value = _object(config, key, source)
        unknown = next((name for name in value if name not in SCALING_KEYS), None)
        if unknown is not None:
            raise ConfigError(f"{source}: {key} has {unknown!r}, which is not supported; leave it out")
        found |= {name: item for name, item in value.items() if item is not None}
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


def _yarn(scaling: Mapping[str, Any], model_type: str | None, source: str) -> dict[str, Any]:
    """YaRN's parameters, or nothing where RoPE is plain."""
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if scaling.get("partial_rotary_factor", 1.0) != 1.0 or scaling.get("truncate", True) is not True:
        raise ConfigError(f"{source}: partial_rotary_factor and truncate are not supported; leave them out")
    if kind == "default":
        return {}
    if kind != "yarn":
        raise ConfigError(f"{source}: rope_scaling of type {kind!r} is not supported; MiniMind knows 'yarn'")
    yarn = _yarn_numbers(scaling, source)
    if model_type in (None, "minimind"):
        return {"type": "yarn"} | yarn
    for key in ("factor", "original_max_position_embeddings"):
        if key not in yarn:
            raise ConfigError(f"{source}: rope_scaling of type 'yarn' needs {key}")
    # Peng et al. 2023, "YaRN", equation 22.
    yarn.setdefault("attention_factor", 0.1 * math.log(max(yarn["factor"], 1.0)) + 1.0)
    return {"type": "yarn"} | yarn


def _yarn_numbers(scaling: Mapping[str, Any], source: str) -> dict[str, Any]:
    numbers = {name: scaling[name] for name in YARN_NUMBERS if scaling.get(name) is not None}
    for name, value in numbers.items():
        if not _is_number_above(0, value):
            raise ConfigError(f"{source}: rope_scaling's {name} must be a positive number, found {value!r}")
    return numbers


def _is_number_above(least: float, value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and least < value < math.inf
