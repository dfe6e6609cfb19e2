"""The folder that an artifact goes to, and which files of an existing folder stay, are replaced or are not touched."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minimind_edge.runtime.artifact.manifest import MANIFEST
from minimind_edge.runtime.artifact.paths import member
from minimind_edge.runtime.errors import ArtifactError, UsageError
from minimind_edge.runtime.hub import snapshot_origin

from ..request import ExportRequest
from .json_file import read_json
from .manifest import is_artifact, read_manifest
from .staging import locked, staged_folder


@dataclass(frozen=True)
class Destination:
    """The artifact folder of one export.

    Attributes:
        folder: The folder's path.
        kept: The manifest's entries of the graphs that stay: other precisions and caches of the same model for the
            same target.
    """

    folder: Path
    kept: tuple[dict[str, Any], ...] = ()


def choose_folder(request: ExportRequest) -> Path:
    """The folder that the request names, or one in the current folder named after the checkpoint.

    Raises:
        UsageError: A file or a folder that is not an artifact is there already, which `--force` does not touch either.
    """
    folder = request.output or _named_after_checkpoint(request)
    if not folder.exists():
        return folder
    if not folder.is_dir():
        raise UsageError(f"{folder} is a file; name a folder with -o")
    if any(folder.iterdir()) and not is_artifact(folder):
        raise UsageError(f"{folder} is not empty and holds no artifact of this tool; name another folder with -o")
    return folder


@contextmanager
def open_destination(
    folder: Path, request: ExportRequest, sha256: str, config: dict[str, Any]
) -> Iterator[tuple[Destination, Path]]:
    """Yield the graphs that stay, and the folder to write to; without an error it then takes the artifact's place.

    The existing artifact is read under the same lock under which it is replaced, so that an export which ended in the
    meantime is not overwritten.

    Args:
        folder: From `choose_folder`.
        request: The export.
        sha256: The checkpoint's.
        config: The model's fields as the manifest keeps them.

    Raises:
        ArtifactError: The manifest that is there is broken.
        BusyError: Another process writes to the folder.
        UsageError: Something would be overwritten without `--force`.
        OSError: The disk is full, read-only or gone.
    """
    with locked(folder):
        destination = plan_destination(folder, request, sha256, config)
        with staged_folder(folder, keep_existing=bool(destination.kept)) as stage:
            yield destination, stage


def plan_destination(folder: Path, request: ExportRequest, sha256: str, config: dict[str, Any]) -> Destination:
    """Decide which graphs of an artifact at `folder` stay: an export adds its precision to those of the same model.

    Args:
        folder: From `choose_folder`.
        request: The export.
        sha256: The hex digest of the checkpoint.
        config: The fields of the model's configuration as the manifest keeps them.

    Raises:
        ArtifactError: The manifest of the existing artifact is broken.
        UsageError: Files would be overwritten without `--force`.
    """
    if not (folder / MANIFEST).is_file():
        return Destination(folder)
    try:
        there = read_manifest(folder)
    except ArtifactError as error:
        raise ArtifactError(f"{error}; remove {folder}, or name another folder with -o") from error
    same_model = there.checkpoint is not None and there.checkpoint.sha256 == sha256 and there.config == config
    stays = same_model and all(graph.target == request.first_target for graph in there.graphs)
    replaced = request.precision, request.kv_cache
    entries = zip(there.graphs, read_json(folder / MANIFEST)["graphs"], strict=True)
    kept = tuple(whole for graph, whole in entries if stays and (graph.precision, graph.kv_cache) != replaced)
    for graph in kept:
        member(folder, graph["file"])  # a graph that stays must not be a link out of the folder
    if len(kept) < len(there.graphs) and not request.force:
        raise UsageError(f"{folder} exists already; replace it with --force or name another folder with -o")
    return Destination(folder, kept)


def _named_after_checkpoint(request: ExportRequest) -> Path:
    if request.checkpoint is None:
        return Path("minimind-demo-moe" if request.moe else "minimind-demo")
    origin = snapshot_origin(request.checkpoint)
    if origin is not None:
        return Path(origin[0].rpartition("/")[2])
    path = request.checkpoint.resolve()
    folder = Path(path.name if path.is_dir() else path.name.split(".")[0])
    return folder if folder.resolve() != path else Path(f"{folder}-{request.first_target}")
