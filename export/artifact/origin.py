"""Finding the artifact that a path belongs to, and the checkpoint that the artifact was exported from."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from minimind_edge.runtime.artifact.manifest import MANIFEST, Adapter, CheckpointEntry
from minimind_edge.runtime.errors import ArtifactError

from ..bundled import bundled_checkpoints
from ..errors import ExportError
from .manifest import is_artifact

if TYPE_CHECKING:
    from minimind_edge.minimind.checkpoint import LoadedCheckpoint


def locate(path: Path) -> tuple[Path, str | None]:
    """The artifact folder that a path belongs to, and the graph that the path names; None where it names the folder.

    Raises:
        ArtifactError: The path does not exist, or is not part of an artifact.
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


def find_checkpoint(folder: Path, entry: CheckpointEntry | Adapter) -> Path:
    """Find a checkpoint by its name and digest; a file of that name with another digest is not taken.

    Args:
        folder: The artifact. The checkpoint may be where the hint says, next to the artifact, in the current folder or
            among the bundled ones.
        entry: The manifest's entry of the checkpoint, or of an adapter.

    Raises:
        ExportError: The checkpoint is in none of these places.
    """
    from minimind_edge.minimind.checkpoint.source import find_source

    name = entry.file
    candidates = [*bundled_checkpoints(), folder.resolve().parent / name, Path(name)]
    if entry.path is not None and not PurePosixPath(entry.path).is_absolute():
        candidates.insert(0, folder.resolve() / entry.path)
    for path in candidates:
        if path.name == name and path.exists() and find_source(path).sha256() == entry.sha256:
            return path
    hub = f" hf://{entry.hub}@{entry.revision}" if isinstance(entry, CheckpointEntry) and entry.hub else ""
    raise ExportError(
        f"the checkpoint {name} (sha256 {entry.sha256[:12]}) is not next to {folder} or in the current folder; "
        f"name it by --against{hub}"
    )


def load_exported(source: Path, folder: Path, checkpoint: CheckpointEntry, config: dict[str, Any]) -> LoadedCheckpoint:
    """Read the model as it was exported: with the manifest's config, its adapters merged.

    Args:
        source: The checkpoint.
        folder: The artifact; adapters may lie next to it.
        checkpoint: The entry of the checkpoint in the manifest or in a plan's description.
        config: The fields of the model's configuration, as the manifest has them.

    Raises:
        ExportError: An adapter is not found.
        MiniMindError: The checkpoint is not what the manifest says.
    """
    from minimind_edge.minimind.checkpoint import read_checkpoint

    adapters = [find_checkpoint(folder, adapter) for adapter in checkpoint.lora]
    return read_checkpoint(source, config, lora=adapters or None)
