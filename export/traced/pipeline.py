"""From a changed model to a verified artifact folder, with a graph that is traced from the model's own code."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import onnx_ir as ir
import torch
from torch import nn

from minimind_edge.runtime.errors import ArtifactError, UsageError
from minimind_edge.runtime.session.contract import METADATA_PREFIX

from ..artifact.destination import choose_folder, open_destination
from ..artifact.graph_file import GRAPH_FILE, graph_file
from ..artifact.manifest import graph_entry
from ..artifact.tokenizer_files import TokenizerFiles, find_tokenizer
from ..errors import ParityError
from ..graph.onnx_file import save_graph, weight_bytes
from ..graph.precision import INTEGERS, check_precision, compute_dtype
from ..parity import ParityReport, compare
from ..parity.tolerance import rounded_weights_tolerance, tolerance_of
from ..progress import Progress, part, silent
from ..quantization.calibration import calibration_prompts
from ..quantization.formats import INT8_BLOCKS
from ..quantization.quality import measure_quality, require_quality
from ..quantization.quantize import QuantizedModel
from ..request import ExportRequest, ExportResult
from .artifact import describe, traced_manifest, write_files
from .code import OwnCode, code_of, load_code
from .construction import build_model
from .owner import OwnersModel, understand
from .reference import OwnersReference
from .rounding import round_model
from .storage import WeightStorage
from .trace import OPSETS, trace

TARGETS = ("portable", "tensorrt")
DEFAULT_MAX_LENGTH = 8192
PREFIX = "model"
"""The name of the model in a traced step, with which the names of the graph's weights begin."""

# Shares of the time that the stages take.
TRACED, BUILT, WRITTEN = 0.2, 0.6, 0.7


@dataclass(frozen=True)
class TracedSource:
    """The changed model that is exported.

    Attributes:
        own: The model.
        code: Its code.
        name: The name of the checkpoint, or of the class where there is no file.
        sha256: The hex digest of the checkpoint, or of the tensors.
        folder: The checkpoint's folder, where a tokenizer and a generation config may lie; None without a file.
    """

    own: OwnersModel
    code: OwnCode
    name: str
    sha256: str
    folder: Path | None


def export_traced(request: ExportRequest, code: str, progress: Progress | None = None) -> ExportResult:
    """Export a checkpoint by its owner's code; see `pipeline.export_onnx`.

    Args:
        request: The request; target `ort` has no traced form.
        code: `FILE.py:CLASS`, the code that is imported and run.
        progress: Called with a stage's name and the share of the whole that is done.

    Raises:
        UsageError: An option does not apply to a model's own code.
        ExportError: The code cannot be imported, built, filled or traced.
        ParityError: The graph does not compute what the code computes.
    """
    tell = progress or silent
    request = _checked(request)
    tell("reading the checkpoint", 0.0)
    if request.checkpoint is None:
        raise UsageError("--model needs a CHECKPOINT: the bundled demo is stock MiniMind")
    loaded = load_code(code)
    built = build_model(loaded, request.checkpoint, request.config)
    own = understand(built.model, request.max_length)
    path = request.checkpoint
    source = TracedSource(own, loaded, built.name, built.sha256, path if path.is_dir() else path.parent)
    return _export(source, request, tell)


def export_module(model: nn.Module, request: ExportRequest, progress: Progress | None = None) -> ExportResult:
    """Export a model object, by the code of its own class; see `export_traced`.

    Args:
        model: Any module that keeps the protocol, in float32 on the CPU.
        request: The request; its `output` is needed, and its `checkpoint` must be None.
        progress: Called with a stage's name and the share of the whole that is done.

    Raises:
        UsageError: An option does not apply to a model's own code.
        ExportError: The model cannot be traced.
        ParityError: The graph does not compute what the code computes.
    """
    if request.output is None:
        raise UsageError("name the artifact folder: export_onnx(model, output=...)")
    request = _checked(request)
    own, code = understand(model, request.max_length), code_of(model)
    return _export(TracedSource(own, code, code.name, _digest(model), None), request, progress or silent)


def _checked(request: ExportRequest) -> ExportRequest:
    """The request with its target decided.

    Raises:
        UsageError: An option does not apply to a model's own code.
    """
    if request.target == "auto":
        request = replace(request, target="portable")
    if request.target not in TARGETS:
        raise UsageError(f"a model's own code is traced for {' or '.join(TARGETS)}, not for {request.target}")
    check_precision(request.target, request.precision)
    if request.precision == "bf16":
        raise UsageError("a traced graph comes in fp32, fp16, int8 and int4, not in bf16")
    for given, option in (
        (request.lora, "--lora"),
        (request.moe, "--moe"),
        (request.yarn is not None, "--yarn"),
        (request.kv_cache != "float", "--kv-cache int8"),
        (request.quantization.int4_head, "--head int4"),
        (request.quantization.int8_block != INT8_BLOCKS[0], "--int8-block"),
    ):
        if given:
            raise UsageError(f"{option} is for stock MiniMind; a model's own code decides that by itself")
    return request


def _export(source: TracedSource, request: ExportRequest, tell: Progress) -> ExportResult:
    folder = choose_folder(request)
    max_length = _max_length(request.max_length, source.own)
    tokenizer, notes = _tokenizer(source, request)
    config = describe(source.own, source.code)
    with open_destination(folder, request, source.sha256, config) as (destination, stage):
        entry, parity = _write_graph(source, request, tokenizer, stage, max_length=max_length, tell=tell)
        graphs = sorted((entry, *destination.kept), key=lambda graph: list(GRAPH_FILE).index(graph["precision"]))
        content = traced_manifest(source.own, source.code, source.name, source.sha256, graphs)
        write_files(stage, folder.resolve().name, source.own, source.code, checkpoint=source.folder, content=content)
        if tokenizer is not None:
            tokenizer.copy_to(stage)
    tell("done", 1.0)
    return ExportResult(
        folder=folder,
        graph=folder / entry["file"],
        notes=(f"traced     {source.code}: its own code is what the graph computes and is compared with", *notes),
        has_tokenizer=tokenizer is not None,
        has_chat_template=tokenizer is not None and tokenizer.chat_template is not None,
        manifest=content,
        parity=parity,
    )


def _max_length(asked: int | None, own: OwnersModel) -> int:
    limit = own.facts.max_position_embeddings
    if asked is not None and not 1 <= asked <= limit:
        raise UsageError(f"--max-length {asked} is outside 1 to {limit}, this model's max_position_embeddings")
    return asked or min(limit, DEFAULT_MAX_LENGTH)


def _tokenizer(source: TracedSource, request: ExportRequest) -> tuple[TokenizerFiles | None, tuple[str, ...]]:
    """The tokenizer to put into the artifact, and notes for the user about it."""
    if source.folder is None and request.tokenizer is None:
        found = None
    else:
        found = find_tokenizer(source.folder or Path(), request.tokenizer)
    if found is None:
        return None, ("warning: no tokenizer; the artifact runs by --ids alone (name one by --tokenizer)",)
    rows = source.own.facts.vocab_size
    if found.size > rows:
        raise ArtifactError(f"{found.path} has {found.size} token ids, but the model's vocabulary has {rows}")
    return found, (f"tokenizer  {found.path}",)


def _write_graph(
    source: TracedSource,
    request: ExportRequest,
    tokenizer: TokenizerFiles | None,
    stage: Path,
    *,
    max_length: int,
    tell: Progress,
) -> tuple[dict[str, Any], ParityReport | None]:
    """Trace, write and verify the graph; return its entry for the manifest and the parity report.

    Raises:
        ParityError: The graph does not compute what the code computes.
    """
    own, target, precision = source.own, request.target, request.precision
    computed, quantized = own, None
    if precision in INTEGERS:
        prompts = calibration_prompts(tokenizer, own.facts.bos_token_id)
        computed, quantized = round_model(
            own, precision, target, prompts, settings=request.quantization, progress=part(tell, 0.0, TRACED)
        )
    tell("tracing the model's own code", TRACED)
    graph = _graph(source, computed, quantized, request, max_length)
    tell("writing the graph", BUILT)
    file = graph_file(target, precision)
    save_graph(graph, stage / file)
    quality = None
    if quantized is not None:
        bits = round(8 * weight_bytes(graph) / own.facts.parameters, 3)
        measured = measure_quality(cast("Any", OwnersReference(own)), stage / file, quantized.held_out)
        quality = {"bits_per_weight": bits, **measured, "calibration": quantized.calibration}
        if request.verify:
            require_quality(measured, precision)
    parity = _verified(source, computed, request, stage / file, tell) if request.verify else None
    entry = graph_entry(
        stage,
        file,
        target=target,
        precision=precision,
        opset=OPSETS[target],
        max_length=max_length,
        parity=None if parity is None else parity.to_json(),
        quality=quality,
    )
    return entry, parity


def _graph(
    source: TracedSource,
    computed: OwnersModel,
    quantized: QuantizedModel | None,
    request: ExportRequest,
    max_length: int,
) -> ir.Model:
    """The traced graph, with its weights stored in the precision."""
    target, precision = request.target, request.precision
    graph, step = trace(computed, target, max_length)
    storage = WeightStorage(graph, step)
    storage.turn_weights()
    if quantized is not None:
        matrices = {f"{PREFIX}.{name}": matrix for name, matrix in quantized.matrices.items()}
        storage.as_integers(matrices, compute_dtype(target, precision))
    if compute_dtype(target, precision) == ir.DataType.FLOAT16:
        storage.halve()
    graph.metadata_props.update(_metadata(source.own, target, precision, max_length))
    graph.graph.name, graph.graph.doc_string = source.code.name, f"traced from {source.code}, {target}, {precision}"
    graph.producer_version = version("minimind-edge")
    return graph


def _verified(
    source: TracedSource, computed: OwnersModel, request: ExportRequest, graph: Path, tell: Progress
) -> ParityReport:
    """Compare the graph with the model's own code; an int8 or int4 graph, with that code on the rounded weights.

    Raises:
        ParityError: The graph does not compute what the code computes.
    """
    layers, tolerance = computed.facts.num_hidden_layers, None
    if request.precision in INTEGERS:  # TensorRT rounds no activations beyond float16's
        is_half = request.target == "tensorrt"
        tolerance = tolerance_of("fp16", layers) if is_half else rounded_weights_tolerance(layers)
    report = compare(
        OwnersReference(computed, str(source.code)),
        graph,
        target=request.target,
        precision=request.precision,
        tolerance=tolerance,
        progress=part(tell, WRITTEN, 1.0, "verifying: "),
    )
    if not report:
        raise ParityError(f"{report.summary()}; nothing was written (--no-verify writes it anyway)")
    return report


def _metadata(own: OwnersModel, target: str, precision: str, max_length: int) -> dict[str, str]:
    """The metadata that a runtime needs when it has only the graph, without the artifact's folder."""
    eos = own.facts.eos_token_id
    stops = eos if isinstance(eos, list) else [eos]
    properties = {
        "target": target,
        "precision": precision,
        "max_length": str(max_length),
        "generation": "traced",
        "eos_token_id": ",".join(str(stop) for stop in stops if stop is not None),
    }
    return {f"{METADATA_PREFIX}{key}": value for key, value in properties.items()}


def _digest(model: nn.Module) -> str:
    """SHA-256 of a model's tensors, by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().to(torch.float32).contiguous().numpy().tobytes())
    return digest.hexdigest()
