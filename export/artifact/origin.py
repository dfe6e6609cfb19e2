"""From a path to the artifact that it is part of, and from there back to the checkpoint that was exported."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from minimind_edge.runtime.errors import ArtifactError

from ..bundled import bundled_checkpoints
from ..errors import ExportError
from .json_file import read_json
from .manifest import MANIFEST, is_artifact

if TYPE_CHECKING:
    from minimind_edge.minimind.checkpoint import LoadedCheckpoint


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read an artifact's manifest and check what its checkpoint and its graphs are found by.

    Raises:
        ArtifactError: It is missing, of another format, or names files outside the folder.
    """
    content = read_json(folder / MANIFEST)
    try:
        if content["format"] != 1:
            raise ArtifactError(f"{folder / MANIFEST} has format {content['format']}; this version reads format 1")
        checkpoint = content["checkpoint"]
        needed: list[tuple[Any, type]] = [(checkpoint["file"], str), (checkpoint["sha256"], str)]
        needed += [(content["config"], dict), (content["graphs"], list)]
        for entry in content["graphs"]:
            needed += [(entry[key], str) for key in ("file", "target", "precision", "sha256")]
            _require_inside(folder, entry["file"])
    except (KeyError, TypeError) as error:
        raise ArtifactError(f"{folder / MANIFEST} lacks {error}; export the checkpoint again") from error
    wrong = [value for value, kind in needed if not isinstance(value, kind)]
    if wrong or not content["graphs"]:
        raise ArtifactError(f"{folder / MANIFEST} is not a manifest of this tool; export the checkpoint again")
    return content


def _require_inside(folder: Path, file: str) -> None:
    path = folder / file
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ArtifactError(f"{folder / MANIFEST} names {file!r}, which lies outside the artifact")
    if not path.is_file():
        raise ArtifactError(f"{path} is missing; export the checkpoint again")


def locate(path: Path) -> tuple[Path, str | None]:
    """The artifact folder of a path, and the graph in it that the path names; None where it names the folder.

    Raises:
        ArtifactError: There is nothing, or it is in no artifact.
    """
    if not path.exists():
        raise ArtifactError(f"no artifact at {path}")
    if path.is_dir():
        if not is_artifact(path):
            raise ArtifactError(f"{path} holds no {MANIFEST} of this tool; verify takes a folder that `onnx` wrote")
        return path, None
    for folder in path.resolve().parents[:2]:
        if is_artifact(folder):
            return folder, path.resolve().relative_to(folder).as_posix()
    raise ArtifactError(f"{path} is not part of an artifact: no {MANIFEST} in its folder or the one above")


def find_checkpoint(folder: Path, name: str, sha256: str, hint: str | None = None) -> Path:
    """Find a checkpoint by its name and digest; a file of that name with another digest is not taken.

    Args:
        folder: The artifact. The checkpoint may be where the hint says, next to the artifact, in the current folder or
            among the bundled ones.
        name: The name of its file or folder.
        sha256: The digest of its weights.
        hint: Its path relative to the artifact, see `checkpoint_hint`.

    Raises:
        ExportError: It is in none of these places.
    """
    from minimind_edge.minimind.checkpoint.source import find_source

    candidates = [*bundled_checkpoints(), folder.resolve().parent / name, Path(name)]
    if hint is not None and not PurePosixPath(hint).is_absolute():
        candidates.insert(0, folder.resolve() / hint)
    for path in candidates:
        if path.name == name and path.exists() and find_source(path).sha256() == sha256:
            return path
    raise ExportError(
        f"the checkpoint {name} (sha256 {sha256[:12]}) is not next to {folder} or in the current folder; "
        "name it by --against"
    )


def load_exported(source: Path, folder: Path, content: Mapping[str, Any]) -> LoadedCheckpoint:
    """Read the model as it was exported: with the manifest's config, its adapters merged.

    Args:
        source: The checkpoint.
        folder: The artifact; adapters may lie next to it.
        content: The manifest, or a plan's description: `config` and `checkpoint` are read.

    Raises:
        ExportError: An adapter is not to be found.
        MiniMindError: The checkpoint is not what the manifest says.
    """
    from minimind_edge.minimind.checkpoint import read_checkpoint

    adapters = [
        find_checkpoint(folder, adapter["file"], adapter["sha256"], adapter.get("path"))
        for adapter in content["checkpoint"].get("lora", [])
    ]
    return read_checkpoint(source, content["config"], lora=adapters or None)
