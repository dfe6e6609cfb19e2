"""A measurement of an artifact, with what it depends on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from .artifact.folder import Artifact
from .bench import BenchPlan, BenchRow, measure
from .load import load_session
from .machine import describe_machine, gpu_name, peak_rss_bytes
from .ort.environment import physical_cores
from .session.run_clock import RunClock
from .tensorrt.plan import Plan


@dataclass(frozen=True)
class BenchReport:
    """What was measured, on what, and how.

    Attributes:
        machine: see `describe_machine`.
        artifact: `path`, `graph`, `target` and `precision` where the artifact tells them, `kv_cache` (dtype) and
            `kv_bytes_per_token` of a graph, `runs_by` (what ran it, with its version), `device`, and the name of that
            `gpu` or None.
        threads: that one operator might use; None where ONNX Runtime chose by itself, and for a plan.
        rows: one for each length of prompt.
        load_s: seconds to open the artifact and make its session, `import onnxruntime` included.
        peak_rss_bytes: the most memory that the process held; None where the system does not tell.
        disk_bytes: the graph and its weights.
    """

    machine: dict[str, Any]
    artifact: dict[str, Any]
    threads: int | None
    rows: tuple[BenchRow, ...]
    load_s: float
    peak_rss_bytes: int | None
    disk_bytes: int

    def to_json(self) -> dict[str, Any]:
        """A JSON object for programs."""
        return {
            "machine": self.machine,
            "artifact": self.artifact,
            "rows": [{**row.to_json(), "threads": self.threads} for row in self.rows],
            "load_s": self.load_s,
            "peak_rss_bytes": self.peak_rss_bytes,
            "disk_bytes": self.disk_bytes,
        }


def measure_artifact(
    path: Path,
    plan: BenchPlan,
    *,
    threads: int | None,
    device: str,
    progress: Callable[[str, float], None],
) -> BenchReport:
    """Load an artifact and run the plan on it.

    Args:
        path: an artifact folder, a graph or a TensorRT plan.
        plan: what to measure.
        threads: that one operator may use; None for the physical cores.
        device: `auto`, `cpu`, `cuda`, `tensorrt` or `rtx`.
        progress: called with a stage's name and the share of the whole that is done, 0 to 1.

    Raises:
        EdgeError: the artifact cannot be run, or not as the plan says.
    """
    progress("loading", 0.0)
    started = perf_counter()
    artifact = Artifact.open(path)
    session = load_session(artifact.graph, threads=threads, device=device)
    load_s = perf_counter() - started
    clock = RunClock(session)
    rows = measure(session, plan, lambda: clock.seconds, progress)
    machine = describe_machine()
    entry, built = artifact.entry, session.facts if isinstance(session.facts, Plan) else None
    return BenchReport(
        machine=machine,
        artifact={
            "path": str(path),
            "graph": str(artifact.graph),
            "target": session.facts.target,
            "precision": entry.precision if entry else session.facts.precision,
            "kv_cache": None if isinstance(session.facts, Plan) else session.facts.kv_dtype.name,
            "kv_bytes_per_token": None if isinstance(session.facts, Plan) else session.facts.kv_bytes_per_slot,
            "runs_by": built.title if built else f"onnxruntime {machine['onnxruntime']}",
            "device": session.device,
            "gpu": gpu_name() if session.device == "cuda" else None,
        },
        threads=None if built else threads or physical_cores(),
        rows=tuple(rows),
        load_s=load_s,
        peak_rss_bytes=peak_rss_bytes(),
        disk_bytes=disk_bytes(artifact.graph),
    )


def disk_bytes(graph: Path) -> int:
    """Bytes of a graph and of the weights that lie beside it as `NAME.onnx_data`."""
    return sum(file.stat().st_size for file in (graph, graph.with_name(f"{graph.name}_data")) if file.is_file())
