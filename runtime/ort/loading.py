"""How ONNX Runtime is asked to load and run a graph, and how its errors are passed on."""

from __future__ import annotations

import os
from types import ModuleType
from typing import Any

from ..errors import ArtifactError, MissingError
from ..session.session import check_positive
from .environment import (
    execution_providers,
    import_onnxruntime,
    physical_cores,
    require_cuda,
    require_fused_attention,
)

SILENT = 4
"""ONNX Runtime's log level that prints nothing but what ends the process: errors are raised, and reported once."""

WIDEN_INTEGERS = "session.disable_quant_qdq"
"""Has weights in front of which a `DequantizeLinear` stands made float32 when the graph is loaded.

Otherwise a `MatMul` behind one becomes `MatMulNBits`, which rounds activations to eight bits; told not to, a step takes
three to eight times as long as with weights that were widened once.
"""

MAX_SUMMARY = 300
"""Most characters of an error of ONNX Runtime that are quoted."""


def session_options(onnxruntime: ModuleType, threads: int | None) -> Any:
    """Options for a decoder that one process runs alone.

    Args:
        onnxruntime: The module.
        threads: That one operator may use; None for the physical cores that this process may run on.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = SILENT
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.inter_op_num_threads = 1
    options.intra_op_num_threads = threads or physical_cores() or 0  # 0: as ONNX Runtime sees fit
    # Every step has another length: a plan of its memory would be made anew, and kept, for each.
    options.enable_mem_pattern = False
    options.add_session_config_entry(WIDEN_INTEGERS, "1")
    return options


def onnxruntime_errors(onnxruntime: ModuleType) -> tuple[type[Exception], ...]:
    """The exceptions that ONNX Runtime raises; they have no class in common, and its binding adds RuntimeError."""
    found = vars(onnxruntime.capi.onnxruntime_pybind11_state).values()
    own = (each for each in found if isinstance(each, type) and issubclass(each, Exception))
    return (*own, RuntimeError)


def summary(error: Exception) -> str:
    """What an error of ONNX Runtime says, on one line and cut where it goes on and on."""
    text = " ".join(str(error).split()).removeprefix("[ONNXRuntimeError] : ")
    return text if len(text) <= MAX_SUMMARY else f"{text[: MAX_SUMMARY - 3]}..."


def open_graph(
    path: str | os.PathLike[str], device: str = "auto", threads: int | None = None
) -> tuple[ModuleType, Any]:
    """Have ONNX Runtime load a graph.

    Args:
        path: The `.onnx` file.
        device: `auto`, `cpu`, `cuda`, `tensorrt` or `rtx`; `auto` takes CUDA where ONNX Runtime has it.
        threads: Threads that one operator may use; None for the physical cores that this process may run on.

    Returns:
        ONNX Runtime, and its session.

    Raises:
        ArtifactError: The file is no graph that ONNX Runtime loads.
        MissingError: What the graph takes is missing: ONNX Runtime, its CUDA provider where `cuda` was asked for, or
            arithmetic in its precision.
        UsageError: An argument is out of range.
    """
    check_positive("threads", threads)
    onnxruntime = import_onnxruntime()
    if device in ("tensorrt", "rtx"):
        from .tensorrt_provider import open_by_tensorrt

        return onnxruntime, open_by_tensorrt(onnxruntime, path, device, threads)
    providers = execution_providers(onnxruntime, device)
    options = session_options(onnxruntime, threads)
    try:
        session = onnxruntime.InferenceSession(os.fspath(path), options, providers=providers)
    except onnxruntime_errors(onnxruntime) as error:
        if "GroupQueryAttention" in str(error):
            require_fused_attention(onnxruntime)
        if "Could not find an implementation" in str(error):
            raise MissingError(
                f"this ONNX Runtime does not compute in the precision of {os.fspath(path)} (for bfloat16 build a plan "
                "with `minimind-export engine`, or export in fp16): " + summary(error)
            ) from error
        raise ArtifactError(f"cannot load {os.fspath(path)}: {summary(error)}") from error
    if device == "cuda":
        require_cuda(session.get_providers())
    return onnxruntime, session
