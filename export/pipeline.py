"""From a checkpoint to a verified artifact folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minimind_edge.minimind.checkpoint import LoadedCheckpoint, read_checkpoint
from minimind_edge.runtime.artifact.manifest import MANIFEST
from minimind_edge.runtime.errors import ArtifactError, UsageError

from .artifact.destination import Destination, choose_folder, plan_destination
from .artifact.genai_config import genai_config
from .artifact.graph_file import GRAPH_FILE, graph_file
from .artifact.hf_config import generation_config, generation_notes, model_config
from .artifact.json_file import write_json
from .artifact.loading_tools import GENAI
from .artifact.manifest import graph_entry, manifest
from .artifact.model_card import write_model_card
from .artifact.special_ids import choose_special_ids
from .artifact.staging import staged_folder
from .artifact.tokenizer_files import TokenizerFiles, find_tokenizer, is_pretrained_only
from .bundled import bundled_checkpoint
from .errors import ParityError
from .graph.precision import INTEGERS, check_int8_cache, check_precision
from .request import ExportRequest, ExportResult

if TYPE_CHECKING:
    from minimind_edge.minimind.causal_lm import MiniMindForCausalLM
    from minimind_edge.minimind.checkpoint.report import CheckpointReport
    from minimind_edge.minimind.config import MiniMindConfig

    from .parity import ParityReport
    from .parity.tolerance import Tolerance
    from .quantization.kv_cache_scales import CalibratedCache
    from .quantization.quantize import QuantizedModel

Progress = Callable[[str, float], None]

DEFAULT_MAX_LENGTH = 8192

# Shares of the time that the stages of a 26M model take.
LOADED, BUILT, WRITTEN = 0.1, 0.6, 0.7


def export_onnx(request: ExportRequest, progress: Progress | None = None) -> ExportResult:
    """Read a checkpoint, write its artifact folder and verify it; where a step fails, nothing is left behind.

    Args:
        request: What to export.
        progress: Called with a stage's name and the share of the whole that is done, 0 to 1.

    Raises:
        EdgeError: Bad input or options, or parity that failed.
        MiniMindError: A checkpoint or config that is no MiniMind.
        OSError: The disk is full or cannot be written.
    """
    tell = progress or (lambda stage, done: None)
    check_precision(request.first_target, request.precision)
    if request.kv_cache == "int8":
        check_int8_cache(request.first_target)
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
    destination = plan_destination(folder, request, report.sha256, loaded.model.config.arguments())
    with staged_folder(folder, keep_existing=bool(destination.kept)) as stage:
        quantized = _quantize(request, loaded.model, tokenizer, tell)
        cached = _calibrate(request, loaded.model if quantized is None else quantized.model, tokenizer, tell)
        entry, parity, bits = _write_graph(
            request, loaded.model, quantized, cached, stage, max_length=max_length, tell=tell
        )
        content = manifest(report, loaded.model.config, _ordered(entry, destination))
        _write_configs(stage, source, loaded.model.config, content)
        if tokenizer is not None:
            tokenizer.copy_to(stage)
        is_chat = tokenizer is not None and tokenizer.chat_template is not None
        answers = is_chat and not is_pretrained_only(source)
        write_model_card(stage, folder.resolve().name, loaded.model.config, content, is_chat=answers)
    tell("done", 1.0)
    return ExportResult(
        folder=folder,
        graph=folder / entry["file"],
        notes=(
            *_report_lines(report),
            special_ids.line(),
            *notes,
            *generation_notes(source if source.is_dir() else source.parent),
            *target_notes,
            *(() if quantized is None else quantized.notes),
            f"{bits:.2f} bits per weight",
        ),
        has_tokenizer=tokenizer is not None,
        has_chat_template=is_chat,
        is_pretrained_only=is_pretrained_only(source),
        manifest=content,
        parity=parity,
    )


def _with_target(request: ExportRequest, config: MiniMindConfig) -> tuple[ExportRequest, tuple[str, ...]]:
    """The request with a target that can hold the model, and what to tell about it.

    Raises:
        ExportError: The target that was asked for cannot.
        UsageError: The target that can has no int8 KV cache.
    """
    from .graph.build import check_model, default_target

    if request.target != "auto":
        check_model(config, request.target)
        return request, ()
    target = default_target(config)
    if request.kv_cache == "int8":
        check_int8_cache(target)
    check_model(config, target)
    notes = () if target == "ort" else (f"target {target}: ort takes no heads of width {config.head_dim}",)
    return replace(request, target=target), notes


def choose_max_length(asked: int | None, config: MiniMindConfig) -> int:
    """The artifact's context length in tokens: what was asked for, else the model's own up to `DEFAULT_MAX_LENGTH`.

    Raises:
        UsageError: More than the model's positions, or less than 1.
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
    """What to tell about the context length: that the default is less than what the model was made for."""
    if request.max_length is not None or max_length == config.max_position_embeddings:
        return ()
    return (
        f"context    {max_length} of the model's {config.max_position_embeddings} tokens; --max-length exports more",
    )


def _tokenizer(
    request: ExportRequest, source: Path, loaded: LoadedCheckpoint
) -> tuple[TokenizerFiles | None, tuple[str, ...]]:
    """The tokenizer to ship, and what to tell about it.

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


def _write_graph(
    request: ExportRequest,
    model: MiniMindForCausalLM,
    quantized: QuantizedModel | None,
    cached: CalibratedCache | None,
    stage: Path,
    *,
    max_length: int,
    tell: Progress,
) -> tuple[dict[str, Any], ParityReport | None, float]:
    """Build, write and verify the graph, of the model or of its rounded weights.

    Returns:
        Its entry for the manifest, the parity report, and its bits per weight.

    Raises:
        ParityError: The graph does not compute what the model computes, or rounding cost the model too much.
    """
    from .graph import build_graph, save_graph
    from .graph.onnx_file import weight_bytes

    def building(name: str, share: float) -> None:
        tell(name, LOADED + share * (BUILT - LOADED))

    graph = build_graph(
        model if quantized is None else quantized.model,
        request.target,
        request.precision,
        max_length,
        progress=building if quantized is None and cached is None else None,
        quantized=None if quantized is None else quantized.matrices,
        cache_scales=None if cached is None else cached.scales,
    )
    tell("writing the graph", BUILT)
    file = graph_file(request.target, request.precision, request.kv_cache)
    save_graph(graph, stage / file)
    opset = graph.opset_imports[""]
    bits = 8 * weight_bytes(graph) / sum(weight.numel() for weight in model.parameters())
    del graph
    quality = _quality(request, model, quantized, cached, stage / file)
    if quality is not None and quantized is not None:
        quality = {"bits_per_weight": round(bits, 3), **quality, "calibration": quantized.calibration}
    parity = _verify(request, model, quantized, stage / file, tell) if request.verify else None
    entry = graph_entry(
        stage,
        file,
        target=request.target,
        precision=request.precision,
        opset=opset,
        max_length=max_length,
        kv_cache=request.kv_cache,
        parity=None if parity is None else parity.to_json(),
        quality=quality,
    )
    return entry, parity, bits


def _quantize(
    request: ExportRequest, model: MiniMindForCausalLM, tokenizer: TokenizerFiles | None, tell: Progress
) -> QuantizedModel | None:
    """The model with its weights rounded; None where the precision rounds none."""
    if request.precision not in INTEGERS:
        return None
    from .quantization.calibration import calibration_prompts
    from .quantization.quantize import quantize_model

    def rounding(name: str, share: float) -> None:
        tell(name, LOADED + share * (BUILT - LOADED))

    prompts = calibration_prompts(tokenizer, model.config.bos_token_id)
    return quantize_model(model, request.precision, prompts, request.quantization, rounding, target=request.target)


def _calibrate(
    request: ExportRequest, model: MiniMindForCausalLM, tokenizer: TokenizerFiles | None, tell: Progress
) -> CalibratedCache | None:
    """The scales of an int8 cache, for the model that the graph is to compute; None where the cache is float."""
    if request.kv_cache == "float":
        return None
    from .quantization.calibration import calibration_prompts
    from .quantization.kv_cache_scales import calibrate_cache

    def calibrating(name: str, share: float) -> None:
        tell(f"keys and values: {name}", BUILT)

    prompts = calibration_prompts(tokenizer, model.config.bos_token_id)
    return calibrate_cache(model, prompts, request.quantization, calibrating)


def _quality(
    request: ExportRequest,
    model: MiniMindForCausalLM,
    quantized: QuantizedModel | None,
    cached: CalibratedCache | None,
    graph: Path,
) -> dict[str, Any] | None:
    """What rounding weights or cache cost, for the manifest; None where nothing was rounded.

    Raises:
        ParityError: Too much, where the export is to be verified.
    """
    from .quantization.quality import measure_quality, require_quality

    rounded = quantized or cached
    if rounded is None:
        return None
    quality = measure_quality(model, graph, rounded.held_out)
    if request.verify:
        require_quality(quality, request.precision)
    return quality


def _verify(
    request: ExportRequest,
    model: MiniMindForCausalLM,
    quantized: QuantizedModel | None,
    graph: Path,
    tell: Progress,
) -> ParityReport:
    """Compare the graph with the model, or with the model of the rounded weights, which allows narrow bounds."""
    from .parity import compare

    def verifying(name: str, share: float) -> None:
        tell(f"verifying: {name}", WRITTEN + share * (1 - WRITTEN))

    report = compare(
        model if quantized is None else quantized.model,
        graph,
        target=request.target,
        precision=request.precision,
        tolerance=None if quantized is None else _rounded_tolerance(request.target, model.config.num_hidden_layers),
        release=True,
        progress=verifying,
    )
    if not report:
        raise ParityError(f"{report.summary()}; nothing was written (--no-verify writes it all the same)")
    return report


def _rounded_tolerance(target: str, layers: int) -> Tolerance:
    """The bounds of a graph of integers against the model of the rounded weights: what is left is its activations'."""
    from .parity.tolerance import rounded_weights_tolerance, tolerance_of

    return tolerance_of("fp16", layers) if target == "tensorrt" else rounded_weights_tolerance(layers)


def _ordered(entry: dict[str, Any], destination: Destination) -> list[dict[str, Any]]:
    """All graphs of the artifact, the unsuffixed one first: it is what a runtime takes unless told otherwise."""
    precisions = list(GRAPH_FILE)
    return sorted(
        (entry, *destination.kept), key=lambda graph: (precisions.index(graph["precision"]), "kv_cache" in graph)
    )


def _write_configs(stage: Path, source: Path, config: MiniMindConfig, content: dict[str, Any]) -> None:
    """Write every JSON file of the folder."""
    default = content["graphs"][0]
    beside = source if source.is_dir() else source.parent
    generation = generation_config(config, beside, default["max_length"])
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
    """What is told of a checkpoint, except for its tokenizer: the one of the artifact may lie elsewhere."""
    return [line for line in report.lines() if not line.startswith("tokenizer ")]
