"""The types of RoPE scaling, and the parameters of each."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeGuard

from .errors import ConfigError

YARN_DEFAULTS: dict[str, Any] = {
    "type": "yarn",
    "factor": 16.0,
    "original_max_position_embeddings": 2048,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "attention_factor": 1.0,
}
"""The parameters of MiniMind's YaRN since 2025-12-01, which upstream's `inference_rope_scaling` turns on."""

YARN_OF_OCTOBER_2025: dict[str, Any] = {
    "type": "yarn-2025-10",
    "factor": 4.0,
    "original_max_position_embeddings": 2048,
    "beta_fast": 4.0,
    "beta_slow": 1.0,
}
"""The parameters of the formula that upstream called YaRN from 2025-10-17 to 2025-12-01."""

SCALINGS: dict[str, dict[str, Any]] = {
    "yarn": YARN_DEFAULTS,
    "yarn-2025-10": YARN_OF_OCTOBER_2025,
    "yarn-transformers": {
        "type": "yarn-transformers",
        "factor": None,
        "original_max_position_embeddings": None,
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "attention_factor": None,
        "truncate": True,
    },
    "linear": {"type": "linear", "factor": None},
    "dynamic": {"type": "dynamic", "factor": None},
    "llama3": {
        "type": "llama3",
        "factor": None,
        "low_freq_factor": None,
        "high_freq_factor": None,
        "original_max_position_embeddings": None,
    },
}
"""The parameters of each type and their defaults; None stands for a parameter that must be given."""

YARN_TYPES = frozenset({"yarn", "yarn-2025-10", "yarn-transformers"})
"""The types that `--yarn` and `--no-yarn` switch."""

LEAST, GREATEST = 1e-6, 1e12
"""The range of every numeric parameter, far wider than any model needs and narrow enough to compute with."""


def complete_scaling(given: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of the type that `given` names (by default `yarn`), completed by the type's defaults.

    Raises:
        ConfigError: The type or a parameter is unknown, missing, or out of range.
    """
    kind = given.get("type", "yarn")
    if not isinstance(kind, str) or kind not in SCALINGS:
        raise ConfigError(f"rope_scaling type {kind!r} is not supported; the types are {', '.join(SCALINGS)}")
    unknown = next((name for name in given if name not in SCALINGS[kind]), None)
    if unknown is not None:
        raise ConfigError(f"rope_scaling has {unknown!r}; expected only {', '.join(SCALINGS[kind])}")
    complete = SCALINGS[kind] | dict(given)
    for name, value in complete.items():
        if name != "type":
            _require_valid(kind, name, value)
    if kind == "llama3" and complete["high_freq_factor"] <= complete["low_freq_factor"]:
        raise ConfigError(
            f"rope_scaling's high_freq_factor {complete['high_freq_factor']} must be above low_freq_factor "
            f"{complete['low_freq_factor']}"
        )
    return complete


def _require_valid(kind: str, name: str, value: Any) -> None:
    if value is None:
        raise ConfigError(f"rope_scaling of type {kind!r} needs {name}")
    if name == "truncate":
        if not isinstance(value, bool):
            raise ConfigError(f"rope_scaling's truncate must be true or false, found {value!r}")
    elif not is_number(value) or not value > 0:
        raise ConfigError(f"rope_scaling's {name} must be a positive number, found {value!r}")
    elif not LEAST <= value <= GREATEST:
        raise ConfigError(f"rope_scaling's {name} must be from {LEAST:g} to {GREATEST:g}, found {value!r}")


def is_number(value: Any) -> TypeGuard[int | float]:
    """Whether `value` is a number, other than a bool, that is a finite float."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False
