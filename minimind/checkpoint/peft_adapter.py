"""LoRA adapters in PEFT's format: a folder with `adapter_config.json` and `adapter_model.safetensors`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..errors import AdapterError
from ..rope_scaling import is_number
from .json_file import read_json_object
from .links import require_inside

CONFIG = "adapter_config.json"
WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
NAME = re.compile(r"(?:base_model\.model\.)?(.+)\.lora_([AB])(?:\.\w+)?\.weight")
MARK = re.compile(r"\.(?:lora_[AB]|base_layer)\.")
"""The part of a name that identifies PEFT's tensors, of an adapter or of a model with one attached."""

CHANGING = (
    "alora_invocation_tokens",
    "arrow_config",
    "fan_in_fan_out",
    "kasa_config",
    "layer_replication",
    "lora_bias",
    "monteclora_config",
    "target_parameters",
    "trainable_token_indices",
    "use_bdlora",
    "use_dora",
    "use_qalora",
    "velora_config",
)
"""The settings under which an adapter is more than `W + scale * B @ A`."""

PLAIN_INITS = frozenset({"gaussian", "orthogonal", "eva", "true", "false"})
"""The ways to initialize an adapter that do not change the base's weights."""

MERGE_FIRST = "merge it by PEFT's merge_and_unload() and pass the merged model"


def peft_weights(path: Path) -> Path | None:
    """The weight file of a PEFT adapter, given its folder or the file itself; None for files of other kinds.

    Raises:
        AdapterError: The folder holds no adapter.
        CheckpointError: A file of the folder links out of it.
    """
    if path.is_file():
        return path if (path.parent / CONFIG).is_file() and path.name in WEIGHTS else None
    if not path.is_dir():
        return None
    file = next((path / name for name in WEIGHTS if (path / name).is_file()), None)
    if file is None or not (path / CONFIG).is_file():
        raise AdapterError(f"{path}: no PEFT adapter in this folder; expected {CONFIG} and {WEIGHTS[0]}")
    return require_inside(file, path)


def split_peft_pairs(
    tensors: Mapping[str, torch.Tensor], file: Path
) -> dict[str, tuple[torch.Tensor | None, torch.Tensor | None, float]]:
    """The matrices A and B and the scale of each module.

    Args:
        tensors: Tensors of the adapter by their names in `file`.
        file: Weight file of the adapter, next to its `adapter_config.json`.

    Raises:
        AdapterError: The configuration cannot be read or asks for more than LoRA, or a tensor is of another kind.
    """
    config_file = require_inside(file.parent / CONFIG, file.parent)
    try:
        config = read_json_object(config_file)
    except ValueError as error:
        raise AdapterError(f"{config_file}: {error}") from error
    _require_lora(config, config_file)
    halves: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        match = NAME.fullmatch(name)
        if match is None:
            raise AdapterError(f"{file}: tensor {name} is no LoRA matrix; {MERGE_FIRST}")
        halves.setdefault(match[1], {})[match[2]] = tensor
    return {
        module: (pair.get("A"), pair.get("B"), _scale(config, config_file, module, pair.get("A")))
        for module, pair in halves.items()
    }


def _require_lora(config: Mapping[str, Any], file: Path) -> None:
    if config.get("peft_type") != "LORA":
        raise AdapterError(f"{file}: peft_type {config.get('peft_type')!r} is not supported; {MERGE_FIRST}")
    changing = next((name for name in CHANGING if config.get(name)), None)
    if changing is not None:
        raise AdapterError(f"{file}: {changing} is not supported; {MERGE_FIRST}")
    drawn = config.get("init_lora_weights")
    if drawn is not None and str(drawn).lower() not in PLAIN_INITS:
        raise AdapterError(f"{file}: init_lora_weights {drawn!r} changes the base's weights; {MERGE_FIRST}")


def _scale(config: Mapping[str, Any], file: Path, module: str, down: torch.Tensor | None) -> float:
    """The scale `lora_alpha / r`, or `lora_alpha / sqrt(r)` by rank stabilization; a module may have its own alpha."""
    alphas = config.get("alpha_pattern") or {}
    if not isinstance(alphas, Mapping) or any(not re.fullmatch(r"[\w.]+", key) for key in alphas):
        raise AdapterError(f"{file}: alpha_pattern must map names of modules to numbers; {MERGE_FIRST}")
    own = next((value for key, value in alphas.items() if f".{module}".endswith(f".{key}")), None)
    alpha = config.get("lora_alpha") if own is None else own
    if not is_number(alpha):
        raise AdapterError(f"{file}: lora_alpha must be a number, found {alpha!r}")
    rank = down.shape[0] if down is not None and down.dim() == 2 and down.shape[0] else 1
    return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)
