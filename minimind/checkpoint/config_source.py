"""The sources of a configuration: the caller, and a JSON file next to the weights."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

from ..config import MiniMindConfig
from ..errors import ConfigError
from .config_fields import MODEL_TYPES, OWN_NAMES, GivenConfig, translate_config
from .foreign_code import find_foreign_code
from .json_file import read_json_object
from .links import require_inside
from .source import WeightSource

ConfigLike: TypeAlias = MiniMindConfig | Mapping[str, Any] | str | PathLike[str]
SIZE_NAMES = frozenset({"hidden_size", "dim", "num_hidden_layers", "n_layers"})


def gather_config(config: ConfigLike | None, source: WeightSource) -> tuple[GivenConfig, tuple[str, ...]]:
    """The configuration outside of the tensors, and the signs that the model has code of its own.

    The caller's values override those of files.

    Args:
        config: A full `MiniMindConfig`, or the fields to override as a dict or a JSON file in any generation's names.
        source: The weights, next to which `STEM.json` or a `config.json` may lie.

    Raises:
        ConfigError: A configuration cannot be read or translated.
        CheckpointError: The configuration's file is a link out of the folder.
    """
    file = _config_file(source)
    content = {} if file is None else _read(file)
    given = GivenConfig() if file is None else translate_config(content, str(file))
    code = find_foreign_code(source.files[0].parent, content)
    return given if config is None else given.overridden_by(_from_caller(config)), code


def _from_caller(config: ConfigLike) -> GivenConfig:
    if isinstance(config, MiniMindConfig):
        names = OWN_NAMES | {"rope_theta", "inference_rope_scaling", "rope_scaling_parameters"}
        return translate_config({name: getattr(config, name) for name in sorted(names)}, "config")
    if isinstance(config, Mapping):
        return translate_config(config, "config")
    return translate_config(_read(Path(config)), str(config))


def _read(file: Path) -> dict[str, Any]:
    try:
        return read_json_object(file)
    except ValueError as error:
        raise ConfigError(f"{file}: {error}") from error


def _config_file(source: WeightSource) -> Path | None:
    """The JSON file that describes the weights, or None.

    It is `STEM.json` next to a single weight file, else `config.json`; where the user named a file instead of its
    folder, a `config.json` of another model is ignored.
    """
    first = source.files[0]
    config = first.parent / "config.json"
    namesake = first.with_suffix(".json")
    if source.shard_of is None and namesake.is_file():
        return require_inside(namesake, first.parent)
    if not config.is_file():
        return None
    require_inside(config, first.parent)
    return config if source.path.is_dir() or _is_plausible(config) else None


def _is_plausible(file: Path) -> bool:
    try:
        content = read_json_object(file)
    except ValueError:
        return False
    model_type = content.get("model_type")
    if model_type is not None:
        return model_type in list(MODEL_TYPES)
    return any(name in SIZE_NAMES for name in content)
