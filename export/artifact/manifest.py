"""The `manifest.json` of an artifact: its checkpoint, its graphs, and their parity."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minimind_edge.runtime.artifact.json_file import check_json, read_object
from minimind_edge.runtime.artifact.manifest import FORMAT, MANIFEST, CheckpointEntry, GraphEntry, Manifest
from minimind_edge.runtime.artifact.paths import require_member
from minimind_edge.runtime.errors import ArtifactError
from minimind_edge.runtime.hub import snapshot_origin

from ..bundled import bundled_checkpoints
from .architecture import describe_architecture
from .json_file import write_json
from .loading_tools import loads_in
from .staging import locked, staged_files

if TYPE_CHECKING:
    from minimind_edge.minimind.checkpoint import CheckpointReport
    from minimind_edge.minimind.config import MiniMindConfig

TOOL = "minimind-edge"
"""The name of this tool in a manifest."""

SAVE_WAIT_SECONDS = 10.0
"""How long what adds to an artifact waits for another process that writes it."""

TOOLS = ("torch", "transformers", "onnx", "onnx_ir", "onnxruntime", "numpy")


def is_artifact(folder: Path) -> bool:
    """Whether the folder holds a manifest of this tool."""
    try:
        tool = read_object(folder / MANIFEST).get("tool")
    except ArtifactError:
        return False
    return isinstance(tool, dict) and tool.get("name") == TOOL


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a folder.

    Raises:
        ArtifactError: The manifest is missing, broken or of a newer format.
    """
    return Manifest.read(folder / MANIFEST)


def graph_path(folder: Path, entry: GraphEntry) -> Path:
    """The file of a graph that the folder's manifest lists.

    Raises:
        ArtifactError: The file is missing, or its name leads out of the folder.
    """
    return require_member(folder, entry.file, "its manifest")


def origin(manifest: Manifest, where: Path) -> tuple[CheckpointEntry, dict[str, Any]]:
    """The checkpoint that an artifact was exported from, and the fields of the model's configuration.

    Args:
        manifest: The artifact's manifest.
        where: The artifact's folder, for the message.

    Raises:
        ArtifactError: The manifest lacks the checkpoint or the configuration.
    """
    if manifest.checkpoint is None or manifest.config is None:
        raise ArtifactError(f"{where / MANIFEST} lacks checkpoint or config; export the checkpoint again")
    return manifest.checkpoint, manifest.config


def save_figures(folder: Path, file: str, figures: Mapping[str, Any]) -> None:
    """Write a graph's measured figures into its entry of the manifest, as `evaluation`; the rest stays as it is.

    Args:
        folder: The artifact.
        file: The graph, relative to it.
        figures: Values that JSON holds.

    Raises:
        ArtifactError: The manifest is broken, or names no such graph.
        BusyError: The artifact is being written by another process.
        OSError: The disk is full or cannot be written; the manifest is then as it was.
    """
    with locked_artifact(folder), staged_files(folder / MANIFEST, wait=SAVE_WAIT_SECONDS) as stage:
        write_json(stage / MANIFEST, _with_figures(folder, file, figures))


@contextmanager
def locked_artifact(folder: Path) -> Iterator[None]:
    """Keep exports from replacing an artifact while something is added to it.

    Raises:
        BusyError: Another process writes the artifact.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(folder.resolve(), wait=SAVE_WAIT_SECONDS))
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            # Whoever cannot write next to the artifact cannot replace it either.
        yield


def _with_figures(folder: Path, file: str, figures: Mapping[str, Any]) -> dict[str, Any]:
    content = read_object(folder / MANIFEST)
    if Manifest.parse(content, str(folder / MANIFEST)).entry_of(file) is None:
        raise ArtifactError(f"{folder / MANIFEST} names no graph {file}: it has figures of its own graphs only")
    entry = next(each for each in content["graphs"] if each["file"] == file)
    entry["evaluation"] = dict(figures)
    return content


def graph_entry(
    folder: Path,
    file: str,
    *,
    target: str,
    precision: str,
    opset: int,
    max_length: int,
    kv_cache: str = "float",
    parity: dict[str, Any] | None,
    quality: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The manifest's entry of one graph.

    Args:
        folder: The artifact folder.
        file: The path of the graph, relative to the folder.
        target: `portable`, `ort` or `tensorrt`.
        precision: The precision of the weights.
        opset: The version of the standard ONNX operators.
        max_length: The context length in tokens.
        kv_cache: `float` or `int8`.
        parity: The parity report as JSON; None where the graph was not verified.
        quality: The quality that was lost by rounding weights or cache; None where neither was rounded.
    """
    weights = [folder / file, folder / f"{file}_data"]
    entry = {
        "file": file,
        "target": target,
        "precision": precision,
        **({} if kv_cache == "float" else {"kv_cache": kv_cache}),
        "opset": opset,
        "max_length": max_length,
        "sha256": file_sha256(folder / file),
        "bytes": sum(path.stat().st_size for path in weights if path.is_file()),
        "parity": parity,
        **({} if quality is None else {"quality": quality}),
    }
    check_json(entry, GraphEntry, f"the entry of {file}")
    return entry


def manifest(
    report: CheckpointReport, config: MiniMindConfig, graphs: list[dict[str, Any]], folder: Path
) -> dict[str, Any]:
    """The content of `manifest.json`.

    Args:
        report: How the checkpoint became a model.
        config: The configuration of the exported model, overrides included.
        graphs: The `graph_entry` of each graph, to which the tools that load it are added; a runtime takes the first
            graph unless it is told otherwise.
        folder: The artifact folder, in its final place.
    """
    checkpoint = _checkpoint_path(report)
    content = {
        "format": FORMAT,
        "tool": {"name": TOOL, "version": version(TOOL)},
        "checkpoint": {
            "file": checkpoint.name,
            "sha256": report.sha256,
            "generation": report.generation,
            **(hub_origin(report.files[0]) or checkpoint_hint(checkpoint, folder)),
            "lora": [
                {"file": adapter.file.name, "sha256": adapter.sha256, **checkpoint_hint(adapter.file, folder)}
                for adapter in report.lora
            ],
            **({"notes": list(report.notes)} if report.notes else {}),
        },
        "architecture": describe_architecture(config),
        "config": config.arguments(),
        "graphs": [
            graph | {"loads_in": list(loads_in(config, graph["target"], graph["precision"], kv_cache_of(graph)))}
            for graph in graphs
        ],
        "default_graph": graphs[0]["file"],
        "versions": {name: found for name in TOOLS if (found := _installed(name))},
    }
    Manifest.parse(content, MANIFEST)
    return content


def kv_cache_of(graph: Mapping[str, Any]) -> str:
    """The KV cache of a manifest's graph, `float` or `int8`; an entry that does not name it means `float`."""
    return str(graph.get("kv_cache", "float"))


def checkpoint_hint(checkpoint: Path, folder: Path) -> dict[str, str]:
    """The path of a checkpoint relative to the artifact folder, as far as a manifest may publish it.

    A published manifest must not show the folders of its author's disk. So there is a hint only where checkpoint and
    artifact both lie in the current folder, and that folder is not the root of the file system: then the path names
    only folders of that project.

    Args:
        checkpoint: The checkpoint's file or folder.
        folder: The artifact folder, in its final place.

    Returns:
        `path`, with slashes, such as `../out/full_sft_512.pth`; empty where there is no hint. The bundled checkpoints
        are found without one.
    """
    here, source, artifact = Path.cwd().resolve(), checkpoint.parent.resolve() / checkpoint.name, folder.resolve()
    if checkpoint in bundled_checkpoints() or here == Path(here.anchor):
        return {}
    if not (source.is_relative_to(here) and artifact.is_relative_to(here)):
        return {}
    return {"path": Path(os.path.relpath(source, artifact)).as_posix()}


def hub_origin(file: Path) -> dict[str, str]:
    """The repository of the Hub and the commit that a weight file comes from; empty for any other file."""
    origin = snapshot_origin(file)
    return {} if origin is None else {"hub": origin[0], "revision": origin[1]}


def file_sha256(path: Path) -> str:
    """Hex digest of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _checkpoint_path(report: CheckpointReport) -> Path:
    """The weight file, or the folder of a sharded checkpoint."""
    first = report.files[0]
    return first if len(report.files) == 1 else first.resolve().parent


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
