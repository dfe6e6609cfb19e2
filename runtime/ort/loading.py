"""Loading a graph in ONNX Runtime: session options, and errors."""

from __future__ import annotations

import os
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import ArtifactError, MissingError
from ..session.contract import GraphFacts
from ..session.session import check_positive
from .environment import (
    CPU,
    execution_providers,
    import_onnxruntime,
    physical_cores,
    require_cuda,
    require_fused_attention,
)
from .graph_file import GraphInMemory
from .huge_pages import anonymous_memory, use_huge_pages_later
from .in_memory import graph_in_memory
from .native import native_library, warn_of_stock_operators

SILENT = 4
"""ONNX Runtime's log level FATAL: errors are raised as exceptions and reported once, so they need no log."""

WIDEN_INTEGERS = "session.disable_quant_qdq"
"""The session option that converts weights with a `DequantizeLinear` to float32 when the graph is loaded.

Otherwise ONNX Runtime fuses it with the `MatMul` after it to `MatMulNBits`, which rounds activations to eight bits, or,
without rounding, makes a step take three to eight times as long as with float32 weights.
"""

WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"
"""The session option with the folder of the weights, for a graph that is loaded from memory."""

MAX_SUMMARY = 300
"""The length in characters to which an error of ONNX Runtime is cut."""


def run_options(onnxruntime: ModuleType) -> Any:
    """Options for the runs of a decoder, which say that no run is to be captured as a CUDA or WebGPU graph.

    ONNX Runtime's Python binding looks for this before each run, and from 1.32 on its absence costs an exception.
    """
    options = onnxruntime.RunOptions()
    options.log_severity_level = SILENT
    options.add_run_config_entry("gpu_graph_id", "-1")
    return options


def session_options(onnxruntime: ModuleType, threads: int | None) -> Any:
    """Session options for a decoder.

    Args:
        onnxruntime: The imported module.
        threads: Threads for one operator; None for the physical cores that this process may run on.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = SILENT
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.inter_op_num_threads = 1
    options.intra_op_num_threads = threads or physical_cores() or 0  # 0: ONNX Runtime's own choice
    # Every step has another length, and a memory pattern would be planned and kept for each.
    options.enable_mem_pattern = False
    options.add_session_config_entry(WIDEN_INTEGERS, "1")
    return options


def onnxruntime_errors(onnxruntime: ModuleType) -> tuple[type[Exception], ...]:
    """The exceptions that ONNX Runtime raises: its own, which have no common class, and two of its binding.

    The binding raises `RuntimeError`, and `UnicodeDecodeError` where a message quotes a name that is not UTF-8.
    """
    found = vars(onnxruntime.capi.onnxruntime_pybind11_state).values()
    own = (each for each in found if isinstance(each, type) and issubclass(each, Exception))
    return (*own, RuntimeError, UnicodeDecodeError)


def summary(error: Exception) -> str:
    """The message of an error of ONNX Runtime on one line, cut to `MAX_SUMMARY` characters."""
    if isinstance(error, UnicodeDecodeError):
        return "ONNX Runtime's message quotes a name of the graph that is not UTF-8"
    text = " ".join(str(error).split()).removeprefix("[ONNXRuntimeError] : ")
    return text if len(text) <= MAX_SUMMARY else f"{text[: MAX_SUMMARY - 3]}..."


def session_facts(session: Any, without: Container[str] = ()) -> GraphFacts:
    """The facts of the graph of a session.

    Args:
        session: A session of ONNX Runtime.
        without: Names of outputs that are no part of the contract.

    Raises:
        ArtifactError: The graph violates the contract, or has a name or metadata that is not UTF-8.
    """
    with refusing_other_encodings():
        outputs = [each for each in session.get_outputs() if each.name not in without]
        return GraphFacts.read(session.get_inputs(), outputs, session.get_modelmeta().custom_metadata_map)


@contextmanager
def refusing_other_encodings() -> Iterator[None]:
    """Refuse a graph with text that is not UTF-8, which the binding decodes when it is asked for.

    Raises:
        ArtifactError: Text that was asked for is not UTF-8.
    """
    try:
        yield
    except UnicodeDecodeError as error:
        raise ArtifactError(f"the graph has names or metadata that are not UTF-8: {error}; export it again") from error


def open_graph(
    path: str | os.PathLike[str],
    device: str = "auto",
    threads: int | None = None,
    *,
    native: bool = True,
    outputs: Sequence[str] = (),
) -> tuple[ModuleType, Any]:
    """Load a graph in ONNX Runtime, with its optional inputs, and with native operators where they can be used.

    Args:
        path: The `.onnx` file.
        device: `auto`, `cpu` or `cuda`; `auto` takes CUDA where ONNX Runtime has it.
        threads: Threads for one operator; None for the physical cores that this process may run on.
        native: Whether the operators of minimind-edge-native may be used, where it is installed.
        outputs: Names of inner values that are to be outputs too.

    Returns:
        The module `onnxruntime`, and its session for the graph.

    Raises:
        ArtifactError: ONNX Runtime cannot load the file, or it was replaced meanwhile.
        MissingError: ONNX Runtime, its provider for the device, or its arithmetic in the graph's precision is missing.
        UsageError: An argument is out of range.
    """
    check_positive("threads", threads)
    onnxruntime = import_onnxruntime()
    providers = execution_providers(onnxruntime, device)
    library = native_library() if native and providers == [CPU] else None
    graph = graph_in_memory(path, native=library is not None, outputs=outputs)
    before = anonymous_memory() if providers == [CPU] else None
    if graph is not None and graph.is_native:
        try:
            session = _native_session(onnxruntime, graph, threads, library)
        except onnxruntime_errors(onnxruntime) as error:
            graph = graph_in_memory(path, outputs=outputs)
            session = _stock_session(onnxruntime, path, graph, threads, providers)
            warn_of_stock_operators(summary(error))  # not before: the graph itself may be broken
    else:
        session = _stock_session(onnxruntime, path, graph, threads, providers)
    if graph is not None and not graph.is_current():
        raise ArtifactError(f"{os.fspath(path)} was replaced while it was loaded: load it again")
    if device == "cuda":
        require_cuda(session.get_providers())
    if before is not None:
        use_huge_pages_later(before)
    return onnxruntime, session


def _native_session(onnxruntime: ModuleType, graph: GraphInMemory, threads: int | None, library: Path | None) -> Any:
    """The session of a graph with native operators; raises what ONNX Runtime does where they do not load."""
    options = session_options(onnxruntime, threads)
    options.add_session_config_entry(WEIGHTS_FOLDER, str(graph.folder))
    options.register_custom_ops_library(str(library))
    return onnxruntime.InferenceSession(graph.message, options, providers=[CPU], enable_fallback=False)


def _stock_session(
    onnxruntime: ModuleType,
    path: str | os.PathLike[str],
    graph: GraphInMemory | None,
    threads: int | None,
    providers: list[str],
) -> Any:
    """The session of a graph with ONNX Runtime's operators.

    Raises:
        ArtifactError: ONNX Runtime cannot load it.
        MissingError: ONNX Runtime lacks its operators.
    """
    options = session_options(onnxruntime, threads)
    if graph is not None:
        options.add_session_config_entry(WEIGHTS_FOLDER, str(graph.folder))
    try:
        # Its fallback prints the error and tries again on the CPU, which helps where there was another provider.
        return onnxruntime.InferenceSession(
            os.fspath(path) if graph is None else graph.message,
            options,
            providers=providers,
            enable_fallback=len(providers) > 1,
        )
    except onnxruntime_errors(onnxruntime) as error:
        if "GroupQueryAttention" in str(error):
            require_fused_attention(onnxruntime)
        if "Could not find an implementation" in str(error):
            raise MissingError(
                f"this ONNX Runtime does not compute in the precision of {os.fspath(path)} (for bfloat16 build a plan "
                "with `minimind-export engine`, or export in fp16): " + summary(error)
            ) from error
        raise ArtifactError(f"cannot load {os.fspath(path)}: {summary(error)}") from error
