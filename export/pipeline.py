"""From a checkpoint to a verified artifact folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minimind_edge.minimind.checkpoint import LoadedCheckpoint, read_checkpoint
from minimind_edge.runtime.artifact.manifest import MANIFEST
from minimind_edge.runtime.errors import ArtifactError, UsageError

from .artifact.destination import Destination, choose_folder, open_destination
from .artifact.genai_config import genai_config
from .artifact.graph_file import GRAPH_FILE
from .artifact.hf_config import generation_config, generation_notes, model_config
from .artifact.json_file import write_json
from .artifact.loading_tools import GENAI
from .artifact.manifest import manifest
from .artifact.model_card import write_model_card
from .artifact.special_ids import choose_special_ids
from .artifact.tokenizer_files import TokenizerFiles, find_tokenizer, is_pretrained_only
from .bundled import bundled_checkpoint
from .graph.precision import check_int8_cache, check_precision, check_rounding
from .graph_export import GraphExport, stage_seconds
from .progress import Progress, parts, silent
from .request import ExportRequest, ExportResult

if TYPE_CHECKING:
    from torch import nn

    from minimind_edge.minimind.checkpoint.report import CheckpointReport
    from minimind_edge.minimind.config import MiniMindConfig

DEFAULT_MAX_LENGTH = 8192

LOADING_SECONDS = 1.0
"""The seconds that reading a checkpoint takes, for a model of 26M parameters on two cores."""


def export_onnx(request: ExportRequest | nn.Module, progress: Progress | None = None, **options: Any) -> ExportResult:
    """Read a checkpoint, write its artifact folder and verify it; where a step fails, nothing is written.

    Args:
        request: What to export: a request, or a model of your own that is traced, see `traced.pipeline.export_module`.
        progress: Called with a stage's name and the share of the whole that is done, 0 to 1.
        options: With a model, the fields of its `ExportRequest`: `output` is needed, `target` is `portable` unless
            said otherwise.

    Raises:
        EdgeError: Bad input or options, or parity that failed.
        MiniMindError: The checkpoint or config is not one of a MiniMind model.
        OSError: The disk is full or cannot be written.
    """
    if not isinstance(request, ExportRequest):
        from .traced.pipeline import export_module

        return export_module(request, ExportRequest(**options), progress)
    if request.model is not None:
        from .traced.pipeline import export_traced

        return export_traced(request, request.model, progress)
    tell = progress or silent
    check_precision(request.first_target, request.precision)
    if request.kv_cache == "int8":
        check_int8_cache(request.first_target)
    check_rounding(request.quantization, request.first_target, request.precision)
    folder = choose_folder(request)
    source = request.checkpoint or bundled_checkpoint(moe=request.moe)
    tell("reading the checkpoint", 0.0)
    loaded = read_checkpoint(source, request.config, moe=request.moe or None, lora=request.lora, yarn=request.yarn)
    max_length = choose_max_length(request.max_length, loaded.model.config)
    tokenizer, notes = _tokenizer(request, source, loaded)
    special_ids = choose_special_ids(loaded.report, tokenizer)
    report = special_ids.apply(loaded.model.config, loaded.report)
    request, target_notes = _with_target(request, loaded.model.config)
    notes += _context_notes(request, loaded.model.config, max_length)
    arguments = loaded.model.config.arguments()
    stages = parts(tell, {"reading": LOADING_SECONDS, "exporting": sum(stage_seconds(request).values())})
    with open_destination(folder, request, report.sha256, arguments) as (destination, stage):
        graph = GraphExport(
            request,
            loaded.model,
            tokenizer,
            max_length,
            unread_code=report.unread_code,
            progress=stages["exporting"],
        ).write(stage)
        content = manifest(report, loaded.model.config, _ordered(graph.entry, destination), folder)
        _write_configs(stage, source, loaded.model.config, content)
        if tokenizer is not None:
            tokenizer.copy_to(stage)
        is_chat = tokenizer is not None and tokenizer.chat_template is not None
        answers = is_chat and not is_pretrained_only(source)
        write_model_card(stage, folder.resolve().name, loaded.model.config, content, is_chat=answers)
    tell("done", 1.0)
    return ExportResult(
        folder=folder,
        graph=folder / graph.entry["file"],
        notes=(
            *_report_lines(report),
            special_ids.line(),
            *notes,
            *generation_notes(source if source.is_dir() else source.parent),
            *target_notes,
            *graph.notes,
            f"{graph.bits_per_weight:.2f} bits per weight",
        ),
        has_tokenizer=tokenizer is not None,
        has_chat_template=is_chat,
        is_pretrained_only=is_pretrained_only(source),
        manifest=content,
        parity=graph.parity,
    )


def _with_target(request: ExportRequest, config: MiniMindConfig) -> tuple[ExportRequest, tuple[str, ...]]:
    """The request with a target that supports the model, and notes for the user about the choice.

    Raises:
        ExportError: The requested target does not support the model.
        UsageError: The only target that supports the model has no int8 KV cache, or not these weights.
    """
    from .graph.build import check_model, default_target

    if request.target != "auto":
        check_model(config, request.target)
        return request, ()
    target = default_target(config)
    if request.kv_cache == "int8":
        check_int8_cache(target)
    check_rounding(request.quantization, target, request.precision)
    check_model(config, target)
    notes = () if target == "ort" else (f"target {target}: ort takes no heads of width {config.head_dim}",)
    return replace(request, target=target), notes


def choose_max_length(asked: int | None, config: MiniMindConfig) -> int:
    """The context length of the artifact in tokens: as requested, else the model's, at most `DEFAULT_MAX_LENGTH`.

    Raises:
        UsageError: The requested length exceeds the model's positions, or is less than 1.
    """
    limit = config.max_position_embeddings
    if asked is None:
        return min(limit, DEFAULT_MAX_LENGTH)
    if not 1 <= asked <= limit:
        raise UsageError(
            f"--max-length {asked} is outside 1 to {limit}, this checkpoint's max_position_embeddings; "
            "raise that by --config where the model was trained for more"
        )
    return asked


def _context_notes(request: ExportRequest, config: MiniMindConfig, max_length: int) -> tuple[str, ...]:
    """A note for the user where the default context length is less than the model was trained for."""
    if request.max_length is not None or max_length == config.max_position_embeddings:
        return ()
    return (
        f"context    {max_length} of the model's {config.max_position_embeddings} tokens; --max-length exports more",
    )


def _tokenizer(
    request: ExportRequest, source: Path, loaded: LoadedCheckpoint
) -> tuple[TokenizerFiles | None, tuple[str, ...]]:
    """The tokenizer to put into the artifact, and notes for the user about it.

    Raises:
        ArtifactError: The named tokenizer is broken, or has ids that the model has no embedding for.
    """
    found = find_tokenizer(source, request.tokenizer)
    if found is None:
        return None, (
            f"warning: no tokenizer next to {source}; the artifact runs by --ids alone (name one by --tokenizer)",
        )
    rows = loaded.model.config.vocab_size
    if found.size <= rows:
        return found, (f"tokenizer  {found.path}",)
    mismatch = f"{found.path} has {found.size} token ids, but the checkpoint's vocabulary has {rows}"
    if request.tokenizer is not None:
        raise ArtifactError(f"{mismatch}; name the tokenizer that the model was trained with")
    return None, (
        f"warning: {mismatch}; left out: the artifact runs by --ids alone (name the right one by --tokenizer)",
    )


def _ordered(entry: dict[str, Any], destination: Destination) -> list[dict[str, Any]]:
    """The entries of all graphs, the one without a suffix first, as a runtime takes the first by default."""
    precisions = list(GRAPH_FILE)
    return sorted(
        (entry, *destination.kept), key=lambda graph: (precisions.index(graph["precision"]), "kv_cache" in graph)
    )


def _write_configs(stage: Path, source: Path, config: MiniMindConfig, content: dict[str, Any]) -> None:
    """Write every JSON file of the folder."""
    default = content["graphs"][0]
    source_folder = source if source.is_dir() else source.parent
    generation = generation_config(config, source_folder, default["max_length"])
    write_json(stage / "config.json", model_config(config))
    write_json(stage / "generation_config.json", generation)
    if GENAI in default["loads_in"]:
        write_json(
            stage / "genai_config.json",
            genai_config(
                config, generation, filename=default["file"], target=default["target"], max_length=default["max_length"]
            ),
        )
    write_json(stage / MANIFEST, content)


def _report_lines(report: CheckpointReport) -> list[str]:
    """Notes for the user about a checkpoint, without its tokenizer: the artifact's may come from elsewhere."""
    return [line for line in report.lines() if not line.startswith("tokenizer ")]
