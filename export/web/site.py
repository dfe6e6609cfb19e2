"""From a checkpoint or an artifact to a folder of static files: a page that chats with the model."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from minimind_edge.page import INTERFACE
from minimind_edge.runtime.artifact.folder import CHAT_TEMPLATE, TOKENIZER, TOKENIZER_CONFIG
from minimind_edge.runtime.artifact.manifest import MANIFEST
from minimind_edge.runtime.artifact.paths import copy_member, require_member
from minimind_edge.runtime.errors import ArtifactError, UsageError

from ..artifact.folder_copy import copy_folder
from ..artifact.json_file import read_json, write_json
from ..artifact.manifest import is_artifact, read_manifest
from ..artifact.staging import locked, staged_folder
from ..checkpoint_options import CheckpointOptions
from ..pipeline import export_onnx
from ..progress import Progress, silent
from ..request import ExportRequest
from .libraries import WEBGPU_MARK, Library
from .library_source import find_libraries
from .request import SiteRequest, SiteResult
from .title import check_title, model_name, put_title

PAGE = Path(__file__).parent / "page"
MODEL = "model"
VENDOR = "vendor"
DEFAULT_FOLDER = Path("site")
TARGET = "portable"

PAGE_FILES = ("config.json", "generation_config.json", TOKENIZER, TOKENIZER_CONFIG, CHAT_TEMPLATE, "README.md")
"""Files of an artifact that go on the site, in addition to the graph and the manifest."""

# Share of the time after which the libraries are there.
LIBRARIES_FOUND = 0.05


def write_site(request: SiteRequest, progress: Progress | None = None) -> SiteResult:
    """Export a model and write the site around it; where a step fails, nothing is written.

    Args:
        request: The model to put on the site, and the site's folder.
        progress: Called with a stage's name and the share of the whole that is done, 0 to 1.

    Raises:
        EdgeError: Bad input or options, a library that cannot be obtained, or parity that failed.
        MiniMindError: A checkpoint or config is not MiniMind's.
        BusyError: Another process writes to the folder.
        OSError: The disk is full or cannot be written.
    """
    tell = progress or silent
    check_title(request.title)
    folder = request.export.output or DEFAULT_FOLDER
    with locked(folder):
        _check_destination(folder, request.export)
        libraries = find_libraries(request.node_modules, lambda stage: tell(stage, 0.0))
        with staged_folder(folder) as stage:
            notes = _put_model(request, stage / MODEL, tell)
            manifest = read_json(stage / MODEL / MANIFEST)
            copy_folder(INTERFACE, stage)
            copy_folder(PAGE, stage)
            put_title(stage / "index.html", request.title or model_name(request.export.checkpoint, manifest))
            _put_libraries(libraries, stage / VENDOR)
            size, download = _sizes(stage, manifest)
    tell("done", 1.0)
    return SiteResult(folder=folder, size=size, download=download, notes=notes, manifest=manifest)


def _check_destination(folder: Path, export: ExportRequest) -> None:
    """See that the site may be written to a folder.

    Raises:
        UsageError: The folder holds something else than a site, or holds a site and `--force` is not given.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (is_artifact(folder / MODEL) and (folder / "index.html").is_file()):
        raise UsageError(f"{folder} exists and is no site of this tool; name another folder with -o")
    if not export.force:
        raise UsageError(f"{folder} exists already; replace it with --force or name another folder with -o")


def _put_model(request: SiteRequest, folder: Path, tell: Progress) -> tuple[str, ...]:
    """Write the artifact that the page runs; return the notes about it.

    Raises:
        ArtifactError: The page cannot run the artifact.
        UsageError: An option for checkpoints was given, and the source is an artifact.
    """
    export = request.export
    if export.checkpoint is not None and is_artifact(export.checkpoint):
        _refuse_checkpoint_options(request)
        _copy_artifact(export.checkpoint, request.precision, folder)
        notes: tuple[str, ...] = ()
    else:
        onward: Progress = lambda stage, done: tell(stage, LIBRARIES_FOUND + done * (1 - LIBRARIES_FOUND))  # noqa: E731
        precision = request.precision or export.precision
        result = export_onnx(replace(export, output=folder, target=TARGET, precision=precision, force=False), onward)
        notes = tuple(note for note in result.notes if not note.startswith("warning: no tokenizer"))
    _check_runs_in_page(folder, export.checkpoint)
    return notes


def _refuse_checkpoint_options(request: SiteRequest) -> None:
    export = request.export
    options = CheckpointOptions(**{name: getattr(export, name) for name in CheckpointOptions.__dataclass_fields__})
    given = [*options.given(), *(["--max-length"] if export.max_length is not None else [])]
    if given:
        raise UsageError(
            f"{given[0]} is for checkpoints, and {export.checkpoint} is an artifact: leave it out, or name the "
            "checkpoint instead"
        )


def _copy_artifact(source: Path, precision: str | None, folder: Path) -> None:
    """Copy an artifact's files that the page reads, with one graph: the default one, or that of the precision.

    Raises:
        ArtifactError: There is no such graph of target `portable`, a file is missing, or one is a link that leads out
            of the artifact.
    """
    manifest = read_manifest(source)
    named = [graph for graph in manifest.graphs if precision in (None, graph.precision)]
    default = [graph for graph in named if graph.file == manifest.default_graph]
    chosen = next((graph for graph in (*default, *named) if graph.target == TARGET), None)
    if chosen is None:
        found = ", ".join(f"{graph.target} {graph.precision}" for graph in manifest.graphs)
        wanted = TARGET if precision is None else f"{TARGET} in {precision}"
        raise ArtifactError(
            f"{source} has no graph of target {wanted}, which the page runs (found {found}); name the checkpoint"
        )
    require_member(source, chosen.file, MANIFEST)
    for name in (chosen.file, f"{chosen.file}_data", *PAGE_FILES):
        copy_member(source, name, folder / name)
    content = read_json(source / MANIFEST)
    kept = [graph for graph in content["graphs"] if graph["file"] == chosen.file]
    write_json(folder / MANIFEST, {**content, "graphs": kept, "default_graph": chosen.file})


def _check_runs_in_page(folder: Path, source: Path | None) -> None:
    graph = folder / read_json(folder / MANIFEST)["default_graph"]
    if not graph.is_file():
        raise ArtifactError(f"{source} lacks its graph {graph.name}; export the checkpoint again")
    if graph.with_name(f"{graph.name}_data").exists():
        raise ArtifactError(
            f"{source} is too large for a browser: its weights fill a file of their own; try int8 or int4"
        )
    if not (folder / TOKENIZER).is_file():
        raise ArtifactError(f"{source} has no tokenizer, which the page needs; name one by --tokenizer")


def _put_libraries(libraries: Mapping[Library, Path], vendor: Path) -> None:
    """Copy the libraries' files, and write a notice with their names, versions and licenses."""
    notice = ["What this folder holds, as published on npm:", ""]
    for library, source in libraries.items():
        notice.append(f"{library.spec}, {library.license}")
        for file, place in library.files.items():
            (vendor / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / file, vendor / place)
        if (source / "LICENSE").is_file():
            shutil.copyfile(source / "LICENSE", vendor / f"LICENSE.{library.name.rpartition('/')[2]}")
    (vendor / "NOTICE").write_text("\n".join(notice) + "\n", encoding="utf-8")


def _sizes(site: Path, manifest: Mapping[str, Any]) -> tuple[int, int]:
    """The bytes of the whole site, and of the files that a browser loads to run the model by WebAssembly."""
    sizes = {path.relative_to(site): path.stat().st_size for path in site.rglob("*") if path.is_file()}
    used = {Path(MODEL, manifest["default_graph"])}
    used.update(Path(MODEL, name) for name in (MANIFEST, "config.json", "generation_config.json", TOKENIZER))
    used.add(Path(MODEL, "tokenizer_config.json"))
    page = {path for path in sizes if path.parts[0] != MODEL and WEBGPU_MARK not in path.name}
    return sum(sizes.values()), sum(sizes[path] for path in page | used)
