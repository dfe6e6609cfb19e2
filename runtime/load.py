"""Loading: from a graph or a TensorRT plan on disk to the session that runs it."""

from __future__ import annotations

import os
from pathlib import Path

from .artifact.folder import PLAN_SUFFIX
from .errors import UsageError
from .session.session import Session


def load_session(
    path: str | os.PathLike[str],
    *,
    device: str = "auto",
    threads: int | None = None,
    max_length: int | None = None,
    prefill_chunk: int | None = None,
) -> Session:
    """Load a graph of any target, or a plan.

    Args:
        path: An `.onnx` or a `.plan`.
        device: `auto`, `cpu`, `cuda`, `tensorrt` or `rtx`; a plan runs on `cuda`.
        threads: Threads that one operator of a graph may use; None for the physical cores.
        max_length: Most cache slots; None for the file's own limit, which stands where it is less.
        prefill_chunk: Most prompt tokens of one run of a graph; None for its target's own number.

    Raises:
        ArtifactError: The file is broken or of another kind.
        MissingError: The environment lacks what running it takes.
        UsageError: An argument is out of range, or has no place with a plan.
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

    onnxruntime, session = open_graph(path, device, threads)
    return Session(OrtModel(onnxruntime, session, prefill_chunk=prefill_chunk), max_length=max_length)
