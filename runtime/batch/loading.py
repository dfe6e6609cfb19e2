"""Loading a graph or a plan into slots."""

from __future__ import annotations

import os
from pathlib import Path

from ..load import load_session
from ..session.session import Session, check_positive
from ..tensorrt import PLAN_SUFFIX
from .session_slots import SingleSlot
from .slots import SlotSession


def load_slots(
    path: str | os.PathLike[str],
    *,
    slots: int,
    max_length: int | None = None,
    threads: int | None = None,
    device: str = "auto",
    even_rows: bool = False,
) -> SlotSession:
    """Load a model with as many slots as it can have.

    Graphs of target `ort` have any number on the CPU; other targets, other devices and plans have one.

    Args:
        path: An `.onnx` or `.plan` file.
        slots: Number of slots, where the model can have several.
        max_length: Most positions of a slot, where the file's own limit is not lower; None for that limit.
        threads: Threads for one operator of a graph; None for the physical cores.
        device: `auto`, `cpu`, `cuda`, `tensorrt` or `rtx`; a plan runs on `cuda`.
        even_rows: Whether every decode step has an even number of rows, as the same answers by quantized weights take;
            see `OrtSlots`.

    Returns:
        The slots, with a `remark` where they are fewer than asked for.

    Raises:
        ArtifactError: The file is broken or of another kind.
        MissingError: The environment lacks a package, driver or device that running the file takes, or memory.
        UsageError: An argument is out of range, or does not apply to a plan.
    """
    check_positive("slots", slots)
    if Path(path).suffix == PLAN_SUFFIX or device not in ("auto", "cpu"):
        return _single(load_session(path, device=device, threads=threads, max_length=max_length), slots, device)
    from ..ort.environment import CUDA
    from ..ort.loading import open_graph
    from ..ort.model import OrtModel
    from .ort_slots import OrtSlots, takes_rows

    onnxruntime, graph = open_graph(path, device, threads)
    if takes_rows(graph) and CUDA not in graph.get_providers():
        return OrtSlots(onnxruntime, graph, slots=slots, max_length=max_length, even_rows=even_rows)
    return _single(Session(OrtModel(onnxruntime, graph), max_length=max_length), slots, device)


def _single(session: Session, slots: int, device: str) -> SingleSlot:
    """A session as one slot, with a remark where more were asked for."""
    if slots == 1:
        return SingleSlot(session)
    target = session.facts.target
    if session.device != "cpu" or device in ("tensorrt", "rtx"):
        reason = "a GPU runs it; for more, export for target ort and serve with --device cpu"
    elif target == "ort":
        reason = "its graph is of an earlier version; for more, export it again"
    else:
        reason = f"its graph is for target {target}; for more, export it for target ort"
    return SingleSlot(session, f"one request at a time instead of {slots}: {reason}")
