"""The artifact folder: finds and checks the files of an exported model before anything is run.

A folder may come from anywhere, so nothing in it is trusted: JSON is read with a size limit and by its schema, and no
name in it may lead out of the folder (see `paths`).
"""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from ..errors import ArtifactError
from ..tensorrt import PLAN_SUFFIX
from .generation_config import GENERATION_CONFIG, GenerationConfig
from .json_file import read_object
from .manifest import MANIFEST, GraphEntry, Manifest
from .model_config import CONFIG, ModelConfig
from .paths import member, require_member
from .tokenizer_config import JsonObject, complete_config

TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
CHAT_TEMPLATE = "chat_template.jinja"
NAMED_TEMPLATES = "additional_chat_templates"
"""The folder, inside an artifact, of the named chat templates that transformers writes."""

SUFFIXES = {
    "fp32": ("",),
    "fp16": ("_fp16",),
    "bf16": ("_bf16",),
    "int8": ("_q8", "_int8", "_quantized"),
    "int4": ("_q4", "_int4"),
}
"""The endings of graph file names by precision, in order of preference, for folders without a manifest."""

INT8_CACHE_SUFFIX = "_kv8"
"""The ending, after that of the precision, for a graph with an int8 KV cache."""

MARKS = (MANIFEST, CONFIG, TOKENIZER)
"""The files by which a folder is recognized as an artifact: one of them is enough."""

TOKENIZER_CONFIGS = (TOKENIZER_CONFIG, "special_tokens_map.json", "added_tokens.json")
"""The files that complete `tokenizer.json`; only older folders have the last two."""

CHECKPOINT_SUFFIXES = (".pth", ".pt", ".bin", ".safetensors", ".ckpt")
"""The file name endings of checkpoints, which are exported before they can run."""


@dataclass(frozen=True)
class Artifact:
    """An exported model.

    Attributes:
        path: The path that was opened: a folder, a graph or a plan.
        folder: The artifact folder, None for a graph outside of one.
        graph: The graph or plan to run.
        entry: The manifest's entry for that graph, None without a manifest.
        manifest: `manifest.json`, None where there is none (a folder in Hugging Face's or optimum's layout).
        config: `config.json`, empty where there is none.
        generation: `generation_config.json`, completed from `config.json`.
        tokenizer: `tokenizer.json`, None where there is none: such a model takes and gives token ids.
        tokenizer_config: `tokenizer_config.json`, completed from older files, empty where there is none.
        chat_template: `chat_template.jinja`, None where there is none (`tokenizer_config` may hold a template).
        named_templates: The files of `additional_chat_templates`, such as `tool_use.jinja`.
    """

    path: Path
    folder: Path | None
    graph: Path
    entry: GraphEntry | None
    manifest: Manifest | None
    config: ModelConfig
    generation: GenerationConfig
    tokenizer: Path | None
    tokenizer_config: JsonObject
    chat_template: Path | None
    named_templates: tuple[Path, ...] = ()

    @classmethod
    def open(cls, path: str | os.PathLike[str], precision: str | None = None) -> Artifact:
        """Find and check the files of an artifact; loads no graph.

        Args:
            path: An artifact folder, an `.onnx` graph inside or outside of one, or a `.plan`.
            precision: `fp32`, `fp16`, `bf16`, `int8` or `int4` chooses among a folder's graphs; None: the default.

        Raises:
            ArtifactError: The path holds no artifact, a file is broken or of the wrong type, or a name leads out of
                the folder.
        """
        path = Path(path)
        try:
            if path.is_dir():
                return _open_folder(path, path, None, precision)
            if path.is_file() and path.suffix in CHECKPOINT_SUFFIXES:
                raise ArtifactError(
                    f"{path} is a checkpoint, and only an artifact runs: export it with `minimind-export onnx "
                    f"{shlex.quote(str(path))}`"
                )
            if not path.is_file() or path.suffix not in (".onnx", PLAN_SUFFIX):
                raise ArtifactError(f"no artifact at {path}: expected a folder, an .onnx graph or a .plan")
            if precision is not None:
                raise ArtifactError(f"{path} is one graph or plan; name its folder to choose precision {precision!r}")
            return _open_folder(path, _folder_around(path), path, None)
        except OSError as error:
            raise ArtifactError(f"cannot read {path}: {error.strerror or error}") from error

    @property
    def max_length(self) -> int | None:
        """The context length in tokens, None where neither the manifest nor the config has it."""
        if self.entry is not None and self.entry.max_length is not None:
            return self.entry.max_length
        return self.config.max_position_embeddings


def _open_folder(path: Path, folder: Path | None, graph: Path | None, precision: str | None) -> Artifact:
    names = (MANIFEST, CONFIG, GENERATION_CONFIG, TOKENIZER, *TOKENIZER_CONFIGS, CHAT_TEMPLATE)
    files = {name: _member(folder, name) for name in names}
    manifest = Manifest.read(file) if (file := files[MANIFEST]) else None
    config = ModelConfig.parse(read_object(file), str(file)) if (file := files[CONFIG]) else ModelConfig()
    generation = {} if (file := files[GENERATION_CONFIG]) is None else read_object(file)
    entry = None
    if graph is None:
        assert folder is not None  # a path is a folder or a graph
        entry = manifest.graph(precision) if manifest else None
        graph = require_member(folder, entry.file, "its manifest") if entry else _conventional_graph(folder, precision)
    elif folder and manifest:
        entry = next((each for each in manifest.graphs if _same_file(_member(folder, each.file), graph)), None)
    return Artifact(
        path=path,
        folder=folder,
        graph=graph,
        entry=entry,
        manifest=manifest,
        config=config,
        generation=GenerationConfig.parse(generation, config, str(files[GENERATION_CONFIG])),
        tokenizer=files[TOKENIZER],
        tokenizer_config=complete_config(*(_read(files[name], name) for name in TOKENIZER_CONFIGS)),
        chat_template=files[CHAT_TEMPLATE],
        named_templates=() if folder is None else named_templates(folder),
    )


def named_templates(folder: Path) -> tuple[Path, ...]:
    """The files of the named chat templates, sorted by name.

    Raises:
        ArtifactError: A file is a link that leads out of the folder.
    """
    names = sorted(path.name for path in (folder / NAMED_TEMPLATES).glob("*.jinja"))
    files = (member(folder, f"{NAMED_TEMPLATES}/{name}") for name in names)
    return tuple(file for file in files if file is not None)


def _folder_around(graph: Path) -> Path | None:
    parents = (graph.parent, graph.parent.parent) if graph.absolute().parent.name == "onnx" else (graph.parent,)
    return next((parent for parent in parents if any((parent / mark).is_file() for mark in MARKS)), None)


def _conventional_graph(folder: Path, precision: str | None) -> Path:
    """The graph of a folder without a manifest: `onnx/model*.onnx` or `model*.onnx`, else `model.plan`."""
    if precision is not None and precision not in SUFFIXES:
        raise ArtifactError(f"unknown precision {precision!r}: expected one of {', '.join(SUFFIXES)}")
    plain = SUFFIXES[precision] if precision else [each for group in SUFFIXES.values() for each in group]
    suffixes = [*plain, *(f"{suffix}{INT8_CACHE_SUFFIX}" for suffix in plain)]
    names = [f"{parent}model{suffix}.onnx" for suffix in suffixes for parent in ("onnx/", "")]
    for name in names:
        if graph := member(folder, name):
            return graph
    if precision is None and (plan := member(folder, f"model{PLAN_SUFFIX}")):
        return plan
    raise ArtifactError(
        f"{folder} holds no graph ({', '.join(names[:2])}): expected what `minimind-export onnx` writes"
    )


def _read(path: Path | None, name: str) -> JsonObject:
    return JsonObject.read(path) if path else JsonObject({}, name)


def _member(folder: Path | None, name: str) -> Path | None:
    return None if folder is None else member(folder, name)


def _same_file(first: Path | None, second: Path) -> bool:
    return first is not None and first.samefile(second)
