"""From a checkpoint to a verified artifact folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minimind_edge.minimind.checkpoint import LoadedCheckpoint, read_checkpoint
from minimind_edge.runtime.errors import ArtifactError, UsageError

from .artifact.destination import Destination, choose_folder, plan_destination
from .artifact.genai_config import genai_config
from .artifact.graph_file import GRAPH_FILE, graph_file
from .artifact.hf_config import generation_config, model_config
from .artifact.json_file import write_json
from .artifact.loading_tools import GENAI
from .artifact.manifest import MANIFEST, graph_entry, manifest
from .artifact.model_card import write_model_card
from .artifact.staging import staged_folder
from .artifact.tokenizer_files import TokenizerFiles, find_tokenizer
from .bundled import bundled_checkpoint
from .errors import ParityError
from .graph.precision import INTEGERS, check_int8_cache, check_precision
from .request import ExportRequest, ExportResult

if TYPE_CHECKING:
    from torch import nn

    from minimind_edge.minimind.causal_lm import MiniMindForCausalLM
    from minimind_edge.minimind.config import MiniMindConfig

    from .parity import ParityReport
    from .quantization.cache_scales import CalibratedCache
    from .quantization.quantize import QuantizedModel

Progress = Callable[[str, float], None]

DEFAULT_MAX_LENGTH = 8192

# Shares of the time that the stages of a 26M model take.
LOADED, BUILT, WRITTEN = 0.1, 0.6, 0.7


def export_onnx(request: ExportRequest | nn.Module, progress: Progress | None = None, **options: Any) -> ExportResult:
    """Read a checkpoint, write its artifact folder and verify it; where a step fails, nothing is left behind.

    Args:
        request: What to export: a request, or a model of your own that is traced, see `traced.pipeline.export_module`.
        progress: Called with a stage's name and the share of the whole that is done, 0 to 1.
        options: With a model, the fields of its `ExportRequest`: `output` is needed, `target` is `portable` unless
            said otherwise.

    Raises:
        EdgeError: Bad input or options, or parity that failed.
        MiniMindError: A checkpoint or config that is no MiniMind.
        OSError: The disk is full or cannot be written.
    """
    if not isinstance(request, ExportRequest):
        from .traced.pipeline import export_module

        return export_module(request, ExportRequest(**{"target": "portable"} | options), progress)
    if request.model is not None:
        from .traced.pipeline import export_traced

        return export_traced(request, request.model, progress)
    tell = progress or (lambda stage, done: None)
    check_precision(request.target, request.precision)
    _check_cache(request)
    folder = choose_folder(request)
    source = request.checkpoint or bundled_checkpoint(moe=request.moe)
    tell("reading the checkpoint", 0.0)
    loaded = read_checkpoint(source, request.config, moe=request.moe or None, lora=request.lora)
    if request.yarn is not None:
        loaded.model.set_rope_scaling(request.yarn)
    max_length = choose_max_length(request.max_length, loaded.model.config)
    tokenizer, notes = _tokenizer(request, source, loaded)
    destination = plan_destination(folder, request, loaded.report.sha256, loaded.model.config.arguments())
    with staged_folder(folder, keep_existing=bool(destination.kept)) as stage:
        quantized = _quantize(request, loaded.model, tokenizer, tell)
        cached = _calibrate(request, loaded.model if quantized is None else quantized.model, tokenizer, tell)
        entry, parity = _write_graph(request, loaded.model, quantized, cached, stage, max_length=max_length, tell=tell)
        content = manifest(loaded.report, loaded.model.config, _ordered(entry, destination))
        _write_configs(stage, source, loaded.model.config, content)
        if tokenizer is not None:
            tokenizer.copy_to(stage)
        is_chat = tokenizer is not None and tokenizer.chat_template is not None
        write_model_card(stage, folder.resolve().name, loaded.model.config, content, is_chat=is_chat)
    tell("done", 1.0)
    return ExportResult(
        folder=folder,
        graph=folder / entry["file"],
        notes=(*loaded.report.lines(), *notes),
        has_tokenizer=tokenizer is not None,
        has_chat_template=is_chat,
        manifest=content,
        parity=parity,
    )


def _check_cache(request: ExportRequest) -> None:
    """See that the cache's form is one that the target has a choice of.

    Raises:
        UsageError: It is not.
    """
    if request.cache != "static" and request.target != "tensorrt":
        raise UsageError(f"--cache {request.cache} is for --target tensorrt; leave it out with {request.target}")
    if request.kv_cache == "int8":
        check_int8_cache(request.target)


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
            f"warning: no tokenizer beside {source}; the artifact runs by --ids alone (name one by --tokenizer)",
        )
    rows = loaded.model.config.vocab_size
    if found.size <= rows:
        return found, () if found.path.parent == loaded.report.tokenizer else (f"tokenizer {found.path}",)
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
) -> tuple[dict[str, Any], ParityReport | None]:
    """Build, write and verify the graph, of the model or of its rounded weights; its entry for the manifest, the proof.

    Raises:
        ParityError: The graph does not compute what the model computes, or rounding cost the model too much.
    """
    from .graph import build_graph, save_graph

    def building(name: str, share: float) -> None:
        tell(name, LOADED + share * (BUILT - LOADED))

    graph = build_graph(
        model if quantized is None else quantized.model,
        request.target,
        request.precision,
        max_length,
        progress=building if quantized is None and cached is None else None,
        cache=request.cache,
        quantized=None if quantized is None else quantized.matrices,
        cache_scales=None if cached is None else cached.scales,
    )
    tell("writing the graph", BUILT)
    file = graph_file(request.target, request.precision, request.kv_cache)
    save_graph(graph, stage / file)
    opset = graph.opset_imports[""]
    del graph
    quality = _quality(request, model, quantized, cached, stage / file)
    parity = _verify(request, model, quantized, stage / file, tell) if request.verify else None
    entry = graph_entry(
        stage,
        file,
        target=request.target,
        precision=request.precision,
        opset=opset,
        max_length=max_length,
        cache=request.cache if request.target == "tensorrt" else None,
        kv_cache=request.kv_cache,
        parity=None if parity is None else parity.to_json(),
        quality=quality,
    )
    return entry, parity


def _quantize(
    request: ExportRequest, model: MiniMindForCausalLM, tokenizer: TokenizerFiles | None, tell: Progress
) -> QuantizedModel | None:
    """The model with its weights rounded; None where the precision rounds none, or the target does it by itself."""
    if request.precision not in INTEGERS or request.target == "tensorrt":
        return None
    from .quantization.prompts import calibration_prompts
    from .quantization.quantize import quantize_model

    def rounding(name: str, share: float) -> None:
        tell(name, LOADED + share * (BUILT - LOADED))

    prompts = calibration_prompts(tokenizer, model.config.bos_token_id)
    return quantize_model(model, request.precision, prompts, request.quantization, rounding)


def _calibrate(
    request: ExportRequest, model: MiniMindForCausalLM, tokenizer: TokenizerFiles | None, tell: Progress
) -> CalibratedCache | None:
    """The scales of an int8 cache, for the model that the graph is to compute; None where the cache is float."""
    if request.kv_cache == "float":
        return None
    from .quantization.cache_scales import calibrate_cache
    from .quantization.prompts import calibration_prompts

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
    quality = measure_quality(model, graph, rounded.held_out, quantized)
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
    """Compare the graph with the model, or with what rounding made of it: that has narrow bounds too."""
    from .parity import compare
    from .parity.tolerance import rounded_weights_tolerance

    def verifying(name: str, share: float) -> None:
        tell(f"verifying: {name}", WRITTEN + share * (1 - WRITTEN))

    report = compare(
        model if quantized is None else quantized.model,
        graph,
        target=request.target,
        precision=request.precision,
        tolerance=None if quantized is None else rounded_weights_tolerance(model.config.num_hidden_layers),
        release=True,
        progress=verifying,
    )
    if not report:
        raise ParityError(f"{report.summary()}; nothing was written (--no-verify writes it all the same)")
    return report


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
