"""From a checkpoint or an artifact to a plan."""

from __future__ import annotations

from pathlib import Path

from minimind_edge.runtime.errors import UsageError
from minimind_edge.runtime.tensorrt.compute_capability import ComputeCapability
from minimind_edge.runtime.tensorrt.plan import BACKEND_NAMES

from ..artifact.manifest import is_artifact
from ..artifact.tokenizer_files import TOKENIZER
from .builder import BuildOptions, build_plan
from .cache_form import CACHES, check_cache_form, choose_cache_form
from .capabilities import choose_capabilities
from .choice import Choice, choose_backend
from .description import describe_plan
from .engine_graph import EngineGraph
from .monitor import Progress
from .plan_files import write_plan
from .profiles import Limits, profiles_of
from .request import EngineRequest, EngineResult
from .source import EXPORTED, GraphSource, open_source

PLAN = "model.plan"
BACKENDS = ("auto", *BACKEND_NAMES)


def build_engine(request: EngineRequest, progress: Progress | None = None) -> EngineResult:
    """Build a plan and write it with what belongs to it; where a step fails, nothing is left behind.

    Args:
        request: What to build.
        progress: Called with a stage's name and the share of the whole that is done, 0 to 1.

    Raises:
        EdgeError: Bad input or options, no TensorRT, or a graph that it does not take.
        MiniMindError: A checkpoint is no MiniMind.
        OSError: The disk is full or cannot be written.
    """
    tell = progress or (lambda stage, done: None)
    _check(request)
    choice = choose_backend(request)
    form = choose_cache_form(request.cache, choice.backend)
    _capabilities(request, choice, set())  # what no graph could change is told before one is exported
    with open_source(request, form, tell) as source:
        graph = EngineGraph.read(source.graph)
        check_cache_form(graph, request.cache, form, choice.backend)
        if request.precision not in (None, graph.precision):
            raise UsageError(f"{source.graph} is {graph.precision}, not {request.precision}: leave --precision out")
        start = EXPORTED if source.notes else 0.0
        result = _build(request, choice, source, graph, lambda stage, done: tell(stage, start + done * (1 - start)))
    tell("done", 1.0)
    return result


def _build(
    request: EngineRequest, choice: Choice, source: GraphSource, graph: EngineGraph, progress: Progress
) -> EngineResult:
    backend = choice.backend
    limits = choose_limits(request, graph)
    capabilities = _capabilities(request, choice, graph.stored_types())
    profiles = profiles_of(graph.cache_form, limits, graph.cache_of(limits.length))
    options = BuildOptions(profiles, capabilities, request.workspace, request.timing_cache)
    built = build_plan(backend, graph.for_parser(limits.length), graph.path, options, progress)
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
    return EngineResult(
        plan=plan,
        description=description,
        content=content,
        build_s=built.build_s,
        has_tokenizer=(plan.parent / TOKENIZER).is_file(),
        notes=(*source.notes, *(f"{backend.title}: {text}" for text in built.warnings)),
    )


def _capabilities(request: EngineRequest, choice: Choice, types: set[int]) -> tuple[ComputeCapability, ...]:
    device = None if choice.device is None else choice.device.capability
    return choose_capabilities(request.compute_capabilities, choice.backend.name, types, device)


def choose_limits(request: EngineRequest, graph: EngineGraph) -> Limits:
    """Batch, length and chunk of a plan.

    Raises:
        UsageError: A length that the graph's positions do not reach.
    """
    length = request.max_length or graph.cache.capacity
    if length > graph.cache.capacity:
        raise UsageError(
            f"--max-length {length} is more than the {graph.cache.capacity} positions of {graph.path}; export the "
            "checkpoint with a larger --max-length"
        )
    return Limits(request.max_batch, length, min(request.max_chunk, length))


def _check(request: EngineRequest) -> None:
    numbers = {
        "--max-batch": request.max_batch,
        "--max-length": request.max_length,
        "--max-chunk": request.max_chunk,
        "--workspace": request.workspace,
    }
    for option, number in numbers.items():
        if number is not None and number < 1:
            raise UsageError(f"{option} must be at least 1, found {number}")
    for option, word, words in (("--backend", request.backend, BACKENDS), ("--cache", request.cache, CACHES)):
        if word not in words:
            raise UsageError(f"{option} {word!r} is unknown: expected one of {', '.join(words)}")
    if request.output is not None and request.output.suffix != ".plan":
        raise UsageError(f"-o {request.output}: a plan's name ends with .plan")
    if request.output is not None and request.output.is_dir():
        raise UsageError(f"-o {request.output} is a folder; name a file")


def _default_output(request: EngineRequest) -> Path:
    """`model.plan` beside what it was built from, where that is an artifact; else in the current folder."""
    return request.source / PLAN if request.source is not None and is_artifact(request.source) else Path(PLAN)
