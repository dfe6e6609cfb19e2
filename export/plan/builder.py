"""Running TensorRT's builder: from a serialized graph to a serialized plan, with progress and readable errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from minimind_edge.runtime.tensorrt.backend import Backend, error_text
from minimind_edge.runtime.tensorrt.plan import ComputeCapability

from ..artifact.staging import staged_files
from ..errors import ExportError
from ..progress import Progress
from .profiles import Profile

DTYPES = {"FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16"}
"""Element types whose name in TensorRT, in lower case, is not numpy's."""

MOST_ERRORS = 3
"""Most parser errors that are reported; those that follow the first ones are mostly their consequence."""


@dataclass(frozen=True)
class BuildOptions:
    """The options of a build, except for the network.

    Attributes:
        profiles: The profiles, in the plan's order.
        capabilities: Compute capabilities of the GPUs to build for.
        workspace: Most bytes of working memory for one layer; None leaves it to TensorRT.
        timing_cache: A file of kernel timings measured on this GPU, made if it is not there; None keeps nothing.
    """

    profiles: Sequence[Profile]
    capabilities: Sequence[ComputeCapability]
    workspace: int | None = None
    timing_cache: Path | None = None


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of a plan.

    Attributes:
        name: The tensor's name.
        mode: `input` or `output`.
        dtype: The element type by numpy's name, or `bfloat16`.
        shape: The size of each axis, -1 where it varies.
    """

    name: str
    mode: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class BuiltPlan:
    """A plan that TensorRT built.

    Attributes:
        data: The serialized plan.
        tensors: The plan's inputs, then its outputs.
        build_s: Seconds that the build took.
        warnings: TensorRT's warnings.
    """

    data: bytes
    tensors: tuple[TensorInfo, ...]
    build_s: float
    warnings: tuple[str, ...]


def run_builder(backend: Backend, graph: bytes, path: Path, options: BuildOptions, progress: Progress) -> BuiltPlan:
    """Build a plan.

    Args:
        backend: The TensorRT to build with.
        graph: The serialized graph, see `PlanGraph.for_parser`.
        path: The graph's file, for messages and for weights that lie next to it.
        options: How to build.
        progress: Called with a phase's name and the share of the build that is done.

    Raises:
        ExportError: TensorRT does not take the graph.
        OSError: The timing cache cannot be read or written.
    """
    logger = backend.logger()
    builder = backend.module.Builder(logger)
    progress("parsing the graph", 0.0)
    network, parser = _parse(backend, builder, logger, graph, path)
    config = builder.create_builder_config()
    monitor = progress_monitor(backend, progress)
    config.progress_monitor = monitor
    _configure(backend, config, options)
    for profile in options.profiles:
        config.add_optimization_profile(_optimization_profile(builder, network, profile))
    started = perf_counter()
    serialized = builder.build_serialized_network(network, config)
    build_s = perf_counter() - started
    if serialized is None:
        raise ExportError(f"{backend.title} cannot build {path}: {error_text(logger)}")
    _keep_timings(config, options)
    tensors = _tensors(network)
    warnings = tuple(dict.fromkeys(" ".join(text.split()) for _, text in logger.messages))
    del network, parser
    return BuiltPlan(bytes(serialized), tensors, build_s, warnings)


def _configure(backend: Backend, config: Any, options: BuildOptions) -> None:
    # TF32 keeps only ten bits of a float32's fraction, so it would not be the graph's float32.
    config.clear_flag(backend.module.BuilderFlag.TF32)
    if hasattr(config, "num_compute_capabilities"):
        config.num_compute_capabilities = len(options.capabilities)
        known = backend.module.ComputeCapability.__members__
        for index, each in enumerate(options.capabilities):
            config.set_compute_capability(known[f"SM{each.major}{each.minor}"], index)
    if options.workspace is not None:
        config.set_memory_pool_limit(backend.module.MemoryPoolType.WORKSPACE, options.workspace)
    if options.timing_cache is not None:
        known = options.timing_cache.read_bytes() if options.timing_cache.is_file() else b""
        config.set_timing_cache(config.create_timing_cache(known), ignore_mismatch=False)


def _keep_timings(config: Any, options: BuildOptions) -> None:
    if options.timing_cache is None:
        return
    cache = config.get_timing_cache()
    if cache is not None:
        with staged_files(options.timing_cache) as stage:
            (stage / options.timing_cache.name).write_bytes(bytes(cache.serialize()))


def _optimization_profile(builder: Any, network: Any, profile: Profile) -> Any:
    result = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        if tensor.name not in profile.shapes:
            raise ExportError(f"the graph's input {tensor.name} is not one of target tensorrt; export it again")
        result.set_shape(tensor.name, *profile.shapes[tensor.name])
    return result


def _tensors(network: Any) -> tuple[TensorInfo, ...]:
    inputs = [("input", network.get_input(index)) for index in range(network.num_inputs)]
    outputs = [("output", network.get_output(index)) for index in range(network.num_outputs)]
    return tuple(
        TensorInfo(tensor.name, mode, DTYPES.get(tensor.dtype.name, tensor.dtype.name.lower()), tuple(tensor.shape))
        for mode, tensor in (*inputs, *outputs)
    )


def _parse(backend: Backend, builder: Any, logger: Any, graph: bytes, path: Path) -> tuple[Any, Any]:
    """Parse a graph into a strongly typed network.

    Args:
        backend: The TensorRT to parse with.
        builder: Its builder.
        logger: A logger that collects messages.
        graph: The serialized graph.
        path: The graph's file: weights that lie next to it are found by it.

    Returns:
        The network, and the parser, which must live as long as the network.

    Raises:
        ExportError: The parser does not take a node.
    """
    network = builder.create_network(network_flags(backend))
    parser = backend.module.OnnxParser(network, logger)
    if parser.parse(graph, str(path)):
        return network, parser
    errors = [_worded(parser.get_error(index)) for index in range(min(parser.num_errors, MOST_ERRORS))]
    raise ExportError(
        f"{backend.title} cannot parse {path}: {'; '.join(errors) or error_text(logger)}; export the "
        "checkpoint again with this version, and report the message if it stays"
    )


def network_flags(backend: Backend) -> int:
    """Flags of a strongly typed network: types are the graph's own, which is the only way from TensorRT 11 on."""
    flag = getattr(backend.module.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _worded(error: Any) -> str:
    """A parser error: the node, its operator and what is wrong."""
    text = " ".join(error.desc().split())
    name, operator = error.node_name(), error.node_operator()
    return f"node {name!r} ({operator}): {text}" if operator else text


class PhaseCount:
    """Turns the nested phases of a build into one share of the whole.

    Args:
        progress: Called with the name of the second phase from the outside (the outermost is the build itself) and the
            share that is done, 0 to 1, which never falls.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._open: dict[str, _Phase] = {}
        self._done = 0.0
        self._stage = "building the plan"

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """A phase of `steps` steps begins, inside of `parent` unless that is None."""
        self._open[name] = _Phase(parent, max(steps, 1))
        self._tell(name)

    def step(self, name: str, step: int) -> None:
        """A step of a phase is done; steps count from 0."""
        if name in self._open:
            self._open[name].done = step + 1
            self._tell(name)

    def finish(self, name: str) -> None:
        """A phase has ended, whether or not all of its steps were done."""
        self._open.pop(name, None)

    def _tell(self, name: str) -> None:
        share, path = 0.0, [name]
        while (phase := self._open.get(path[-1])) is not None:
            share = min((phase.done + share) / phase.steps, 1.0)
            if phase.parent is None or phase.parent in path:
                break
            path.append(phase.parent)
        if len(path) > 1:
            self._stage = path[-2].lower()
        self._done = max(self._done, share)
        self._progress(self._stage, self._done)


@dataclass
class _Phase:
    parent: str | None
    steps: int
    done: int = 0


def progress_monitor(backend: Backend, progress: Progress) -> Any:
    """A progress monitor for a build; it must live as long as the build's objects.

    Args:
        backend: The TensorRT whose monitor class is derived from.
        progress: Called with a phase's name and the share of the build that is done.
    """
    count = PhaseCount(progress)

    class Monitor(backend.module.IProgressMonitor):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            count.start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            count.step(phase_name, step)
            return True

        def phase_finish(self, phase_name: str) -> None:
            count.finish(phase_name)

    return Monitor()
