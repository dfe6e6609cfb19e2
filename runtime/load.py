"""The session that runs a file: ONNX Runtime for graphs, TensorRT for plans."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from .artifact.folder import PLAN_SUFFIX
from .errors import UsageError

if TYPE_CHECKING:
    from .ort.growing_ort_session import GrowingOrtSession
    from .ort.ort_session import OrtSession
    from .ort.static_ort_session import StaticOrtSession
    from .tensorrt.opening import PlanSession

    GraphSession: TypeAlias = OrtSession | StaticOrtSession | GrowingOrtSession


def load_session(
    path: Path, *, device: str = "auto", threads: int | None = None, max_length: int | None = None
) -> GraphSession | PlanSession:
    """Load a graph or a plan.

    Args:
        path: An `.onnx` or a `.plan`.
        device: `auto`, `cpu`, `cuda`, `tensorrt` or `rtx`; a plan runs on `cuda`.
        threads: That one operator of a graph may use; None for the physical cores.
        max_length: Most positions, None for the file's own limit, which stands where it is less.

    Raises:
        ArtifactError: The file is broken or of another kind.
        MissingError: The environment lacks what running it takes.
        UsageError: An argument is out of range, or has no place with a plan.
    """
    if path.suffix == PLAN_SUFFIX:
        from .tensorrt.opening import load_plan

        if device == "cpu":
            raise UsageError(
                f"{path} is a TensorRT plan, which no CPU runs: leave --device out, or run the .onnx graph"
            )
        return load_plan(path, max_length=max_length)
    return load_graph(path, device=device, threads=threads, max_length=max_length)


def load_graph(
    path: Path, *, device: str = "auto", threads: int | None = None, max_length: int | None = None
) -> GraphSession:
    """Load a graph of any target; see `load_session`."""
    from .ort.ort_session import OrtSession, open_graph
    from .session.graph_facts import cache_of, target_of

    onnxruntime, session = open_graph(path, device, threads)
    metadata = session.get_modelmeta().custom_metadata_map
    if target_of(metadata) != "tensorrt":
        return OrtSession(onnxruntime, session, max_length=max_length)
    if cache_of(metadata) == "growing":
        from .ort.growing_ort_session import GrowingOrtSession

        return GrowingOrtSession(onnxruntime, session, max_length=max_length)
    from .ort.static_ort_session import StaticOrtSession

    return StaticOrtSession(onnxruntime, session, max_length=max_length)
