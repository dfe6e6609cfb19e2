"""From a checkpoint or an artifact to a plan."""

from __future__ import annotations

from pathlib import Path

from minimind_edge.runtime.errors import UsageError
from minimind_edge.runtime.tensorrt.plan import BACKEND_NAMES, ComputeCapability

from ..artifact.manifest import is_artifact
from ..artifact.staging import locked
from ..artifact.tokenizer_files import TOKENIZER
from ..progress import Progress, silent
from .backend import Choice, choose_backend, choose_capabilities, require_tensor_scatter
from .builder import BuildOptions, run_builder
from .files import describe_plan, write_plan
from .graph import PlanGraph
from .profiles import Limits, profiles_of
from .request import PlanRequest, PlanResult
from .source import EXPORTED, GraphSource, open_source

PLAN = "model.plan"
BACKENDS = ("auto", *BACKEND_NAMES)


def build_plan(request: PlanRequest, progress: Progress | None = None) -> PlanResult:
    """Build a plan and write it with its description and tokenizer; where a step fails, nothing is written.

    Args:
        request: What to build.
        progress: Called with a stage's name and the share of the whole that is done, 0 to 1.

    Raises:
        EdgeError: Bad input or options, no TensorRT, or a graph that TensorRT does not support.
        MiniMindError: A checkpoint is not MiniMind's.
        BusyError: Another process writes to the plan.
        OSError: The disk is full or cannot be written.
    """
    tell = progress or silent
    _check(request)
    choice = choose_backend(request)
    require_tensor_scatter(choice.backend)
    _capabilities(request, choice, set())  # errors that no graph can change come before the export
    plan = request.output or _default_output(request)
    with locked(plan), open_source(request, tell) as source:
        graph = PlanGraph.read(source.graph)
        if request.precision not in (None, graph.precision):
            raise UsageError(f"{source.graph} is {graph.precision}, not {request.precision}: leave --precision out")
        start = EXPORTED if source.notes else 0.0
        onward: Progress = lambda stage, done: tell(stage, start + done * (1 - start))  # noqa: E731
        result = _build(request, choice, source, graph, onward)
    tell("done", 1.0)
    return result


def _build(
    request: PlanRequest, choice: Choice, source: GraphSource, graph: PlanGraph, progress: Progress
) -> PlanResult:
    backend = choice.backend
    limits = choose_limits(request, graph)
    capabilities = _capabilities(request, choice, graph.stored_types())
    profiles = profiles_of(limits, graph.cache_of(limits.length))
    options = BuildOptions(profiles, capabilities, request.workspace, request.timing_cache)
    built = run_builder(backend, graph.for_parser(limits.length), graph.path, options, progress)
    content = describe_plan(
        graph,
        limits,
        profiles,
        backend=backend.name,
        backend_version=backend.version,
        capabilities=capabilities,
        data=built.data,
        tensors=built.tensors,
        checkpoint=source.checkpoint,
        config=source.config,
        parity=source.parity,
    )
    plan = request.output or _default_output(request)
    description = write_plan(plan, built.data, content, source.folder)
    return PlanResult(
        plan=plan,
        description=description,
        content=content,
        build_s=built.build_s,
        has_tokenizer=(plan.parent / TOKENIZER).is_file(),
        notes=(*source.notes, *(f"{backend.title}: {text}" for text in built.warnings)),
    )


def _capabilities(request: PlanRequest, choice: Choice, types: set[int]) -> tuple[ComputeCapability, ...]:
    device = None if choice.device is None else choice.device.capability
    return choose_capabilities(request.compute_capabilities, choice.backend.name, types, device)


def choose_limits(request: PlanRequest, graph: PlanGraph) -> Limits:
    """The largest input of a plan.

    Raises:
        UsageError: The length is more than the graph's positions.
    """
    length = request.max_length or graph.cache.capacity
    if length > graph.cache.capacity:
        raise UsageError(
            f"--max-length {length} is more than the {graph.cache.capacity} positions of {graph.path}; export the "
            "checkpoint with a larger --max-length"
        )
    return Limits(request.max_batch, length, min(request.max_chunk, length))


def _check(request: PlanRequest) -> None:
    numbers = {
        "--max-batch": request.max_batch,
        "--max-length": request.max_length,
        "--max-chunk": request.max_chunk,
        "--workspace": request.workspace,
    }
    for option, number in numbers.items():
        if number is not None and number < 1:
            raise UsageError(f"{option} must be at least 1, found {number}")
    if request.backend not in BACKENDS:
        raise UsageError(f"--backend {request.backend!r} is unknown: expected one of {', '.join(BACKENDS)}")
    if request.output is not None and request.output.suffix != ".plan":
        raise UsageError(f"-o {request.output}: a plan's name ends with .plan")
    if request.output is not None and request.output.is_dir():
        raise UsageError(f"-o {request.output} is a folder; name a file")


def _default_output(request: PlanRequest) -> Path:
    """`model.plan` in the artifact that it is built from, else in the current folder."""
    return request.source / PLAN if request.source is not None and is_artifact(request.source) else Path(PLAN)
