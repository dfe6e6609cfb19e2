"""Loading a graph or a TensorRT plan into the session that runs it."""

from __future__ import annotations

import os
from pathlib import Path

from .errors import UsageError
from .session.session import Session, check_positive
from .tensorrt import PLAN_SUFFIX


def load_session(
    path: str | os.PathLike[str],
    *,
    device: str = "auto",
    threads: int | None = None,
    max_length: int | None = None,
    prefill_chunk: int | None = None,
    native: bool = True,
) -> Session:
    """Load a graph of any target, or a plan.

    Args:
        path: An `.onnx` or `.plan` file.
        device: `auto`, `cpu`, `cuda`, `tensorrt` or `rtx`; a plan runs on `cuda`.
        threads: Threads for one operator of a graph; None for the physical cores.
        max_length: Most cache slots, where the file's own limit is not lower; None for that limit.
        prefill_chunk: Most prompt tokens in one run of a graph; None for the default of its target.
        native: Whether a graph on the CPU may use the operators of minimind-edge-native, where that is installed.

    Raises:
        ArtifactError: The file is broken or of another kind.
        MissingError: The environment lacks a package, driver or device that running the file takes.
        UsageError: An argument is out of range, or does not apply to a plan.
    """
    if Path(path).suffix == PLAN_SUFFIX:
        if device == "cpu":
            raise UsageError(
                f"{os.fspath(path)} is a TensorRT plan, which no CPU runs: leave --device out, or run the .onnx graph"
            )
        from .tensorrt.loading import load_plan

        return Session(load_plan(path), max_length=max_length)
    from .ort.loading import open_graph
    from .ort.model import OrtModel

    if device in ("tensorrt", "rtx"):
        from .ort.environment import import_onnxruntime
        from .ort.tensorrt_provider import open_by_tensorrt

        check_positive("threads", threads)
        onnxruntime = import_onnxruntime()
        session = open_by_tensorrt(onnxruntime, path, device, threads)
    else:
        onnxruntime, session = open_graph(path, device, threads, native=native)
    return Session(OrtModel(onnxruntime, session, prefill_chunk=prefill_chunk), max_length=max_length)
