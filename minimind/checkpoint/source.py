"""Finding a checkpoint's files: the weight files of a path, and the tokenizer next to them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import CheckpointError
from .digest import combined_digest
from .json_file import read_json_object
from .links import require_inside

WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
INDEX_SUFFIX = ".index.json"
SHARD = re.compile(r"(.+)-\d{5}-of-(\d{5})(\.safetensors|\.bin)")
FOLDER_FILES = tuple(name + end for name in ("model.safetensors", "pytorch_model.bin") for end in ("", INDEX_SUFFIX))
TRAINER_FILES = frozenset({"training_args.bin", "optimizer.bin", "optimizer.pt", "scheduler.pt", "scaler.pt"})


@dataclass(frozen=True)
class WeightSource:
    """The files of one checkpoint.

    Attributes:
        path: Path that the user named.
        files: Weight files: a single one, or the shards in the order of their names.
        shard_of: Shard name by tensor name, for a sharded checkpoint; None for a single file.
        tokenizer: Folder with a `tokenizer.json` next to the weights; None where there is none.
    """

    path: Path
    files: tuple[Path, ...]
    shard_of: Mapping[str, str] | None
    tokenizer: Path | None

    def sha256(self) -> str:
        """The SHA-256 of the weight file; of several, that of their sorted hexadecimal digests."""
        return combined_digest(self.files)


def find_source(path: Path) -> WeightSource:
    """Find the weight files of a path: a file, a shard index, or a folder with either.

    Raises:
        CheckpointError: The path holds no weights, or a folder holds several weight files.
    """
    try:
        file = _weights_in(path) if path.is_dir() else _index_of_shard(path)
        found = file.is_file()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise CheckpointError(f"{path}: is no path ({error})") from error
    if not found:
        raise CheckpointError(f"{path}: no such checkpoint; pass a .pth, .safetensors or a folder on this machine")
    tokenizer = file.parent if (file.parent / "tokenizer.json").is_file() else None
    if not file.name.endswith(INDEX_SUFFIX):
        return WeightSource(path, (file,), None, tokenizer)
    shard_of = _read_index(file)
    files = tuple(_shard(file, name) for name in sorted(set(shard_of.values())))
    return WeightSource(path, files, shard_of, tokenizer)


def _index_of_shard(file: Path) -> Path:
    """The index of the checkpoint that a shard belongs to; any other file as it is.

    Raises:
        CheckpointError: The shard's index is missing.
    """
    shard = SHARD.fullmatch(file.name)
    if shard is None or not file.is_file():
        return file
    index = file.with_name(f"{shard[1]}{shard[3]}{INDEX_SUFFIX}")
    if not index.is_file() and int(shard[2]) > 1:
        raise CheckpointError(
            f"{file}: one of {int(shard[2])} shards, without {index.name}; put all of them in one folder"
        )
    return index if index.is_file() else file


def _weights_in(folder: Path) -> Path:
    for name in FOLDER_FILES:
        if (folder / name).is_file():
            return require_inside(folder / name, folder)
    found = sorted(
        file
        for file in folder.iterdir()
        if file.suffix in WEIGHT_SUFFIXES and file.is_file() and file.name not in TRAINER_FILES
    )
    if not found:
        raise CheckpointError(f"{folder}: no weights in this folder; expected {FOLDER_FILES[0]} or one .pth file")
    if len(found) > 1:
        names = ", ".join(file.name for file in found[:4]) + (" ..." if len(found) > 4 else "")
        raise CheckpointError(f"{folder}: {len(found)} weight files in this folder ({names}); pass the one you mean")
    return require_inside(found[0], folder)


def _read_index(index: Path) -> dict[str, str]:
    try:
        weight_map = read_json_object(index).get("weight_map")
    except ValueError as error:
        raise CheckpointError(f"{index}: {error}") from error
    if not isinstance(weight_map, dict) or not weight_map or not all(isinstance(v, str) for v in weight_map.values()):
        raise CheckpointError(f"{index}: not a shard index: expected a 'weight_map' of tensor names to file names")
    return weight_map


def _shard(index: Path, name: str) -> Path:
    """The path of a shard; an index may name only files of its own folder."""
    if Path(name).name != name or "\0" in name:
        raise CheckpointError(f"{index}: names the shard {name!r}, which is not a file name of its own folder")
    shard = index.parent / name
    try:
        found = shard.is_file()
    except (OSError, UnicodeEncodeError):  # a name that is too long, or that no file system allows
        found = False
    if not found:
        raise CheckpointError(f"{index}: shard {name} is missing; copy all shards into {index.parent}")
    return require_inside(shard, index.parent)
