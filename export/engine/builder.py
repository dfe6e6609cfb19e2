"""TensorRT's builder, driven: profiles, limits, GPUs and what it measured before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from minimind_edge.runtime.tensorrt.backend import Backend, error_text
from minimind_edge.runtime.tensorrt.compute_capability import ComputeCapability

from ..errors import ExportError
from .monitor import Progress, progress_monitor
from .network import parse_network
from .profiles import Profile


@dataclass(frozen=True)
class BuildOptions:
    """How to build, beside the network itself.

    Attributes:
        profiles: In the plan's order.
        capabilities: GPUs to build for.
        workspace: Most bytes of working memory for one layer; None leaves it to TensorRT.
        timing_cache: A file of what TensorRT measured on this GPU; is made if need be. None keeps nothing.
    """

    profiles: Sequence[Profile]
    capabilities: Sequence[ComputeCapability]
    workspace: int | None = None
    timing_cache: Path | None = None


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of a plan.

    Attributes:
        name: Its name.
        mode: `input` or `output`.
        dtype: As in numpy, and `bfloat16`.
        shape: -1 where an axis varies.
    """

    name: str
    mode: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class BuiltPlan:
    """What TensorRT made of a graph.

    Attributes:
        data: The plan.
        tensors: Its inputs, then its outputs.
        build_s: Seconds that it took.
        warnings: What TensorRT remarked.
    """

    data: bytes
    tensors: tuple[TensorInfo, ...]
    build_s: float
    warnings: tuple[str, ...]


def build_plan(backend: Backend, graph: bytes, path: Path, options: BuildOptions, progress: Progress) -> BuiltPlan:
    """Build a plan.

    Args:
        backend: TensorRT.
        graph: Ready for the parser.
        path: Where it came from.
        options: How to build.
        progress: Called with a phase's name and the share of the build that is done.

    Raises:
        ExportError: TensorRT does not take the graph.
        OSError: The timing cache cannot be read or written.
    """
    logger = backend.logger()
    builder = backend.module.Builder(logger)
    progress("parsing the graph", 0.0)
    network, parser = parse_network(backend, builder, logger, graph, path)
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
    # TF32 keeps ten bits of a float32's fraction: with it, what the graph calls float32 is none.
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
        options.timing_cache.write_bytes(bytes(cache.serialize()))


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


DTYPES = {"FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16"}
"""TensorRT's names of types, where they are not everybody's."""
