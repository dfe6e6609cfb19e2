"""Benchmark of a session on this machine: prefill, decode, the first token, and what the Python loop adds to a step."""

from __future__ import annotations

import os
import platform
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from .artifact.folder import PLAN_SUFFIX, Artifact
from .decode import DecodeTimings, generate
from .errors import MissingError, UsageError
from .load import load_session
from .ort.environment import import_onnxruntime, physical_cores
from .sampling import SamplingParams
from .session.session import Session
from .tensorrt.plan import Plan

SEED = 0


@dataclass(frozen=True)
class BenchPlan:
    """What to measure.

    Attributes:
        prompt_tokens: lengths of the prompts, one row of results each.
        new_tokens: tokens generated behind each prompt, at least 2: the first one belongs to the prefill.
        batch: rows generated at once.
        runs: measured runs of each row, behind one run to warm up.

    Raises:
        UsageError: a number is too small.
    """

    prompt_tokens: tuple[int, ...] = (128, 512)
    new_tokens: int = 128
    batch: int = 1
    runs: int = 5

    def __post_init__(self) -> None:
        if not self.prompt_tokens or min(self.prompt_tokens) < 1:
            raise UsageError("prompt_tokens needs one or more lengths, each at least 1")
        for name, least in (("new_tokens", 2), ("batch", 1), ("runs", 1)):
            if getattr(self, name) < least:
                raise UsageError(f"{name} is {getattr(self, name)}: it must be at least {least}")


class Spread(NamedTuple):
    """A quantity over several runs."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Summarize at least one value."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class BenchRow:
    """What was measured for one length of prompt.

    Attributes:
        prompt_tokens: tokens of each prompt.
        new_tokens: tokens generated behind it.
        batch: rows at once.
        runs: measured runs.
        quantities: `prefill_tokens_per_s` and `decode_tokens_per_s` of all rows of the batch together;
            `time_to_first_token_s`; `step_s`, one decode step; `step_overhead_s`, the part of it that is not spent
            inside the model's own run; `step_overhead_share`, that part of `step_s`.
    """

    prompt_tokens: int
    new_tokens: int
    batch: int
    runs: int
    quantities: dict[str, Spread]

    def to_json(self) -> dict[str, Any]:
        """A JSON object: each quantity's median under its name, and its range as `NAME_range`."""
        fields: dict[str, Any] = {
            "prompt_tokens": self.prompt_tokens,
            "new_tokens": self.new_tokens,
            "batch": self.batch,
            "runs": self.runs,
        }
        for name, spread in self.quantities.items():
            fields[name] = spread.median
            fields[f"{name}_range"] = [spread.low, spread.high]
        return fields


def measure(
    session: Session,
    plan: BenchPlan,
    progress: Callable[[str, float], None] = lambda stage, done: None,
) -> list[BenchRow]:
    """Run the plan, greedy, on random tokens; each round runs every row once, so that noise meets all of them.

    Args:
        session: what to measure.
        plan: how.
        progress: called with a stage's name and the share of the whole that is done, 0 to 1.

    Raises:
        UsageError: a prompt and what is generated behind it are longer than the session can hold.
    """
    longest = max(plan.prompt_tokens) + plan.new_tokens
    if longest > session.max_length:
        raise UsageError(
            f"{longest} tokens (prompt and new ones) are more than the context of {session.max_length}: measure fewer"
        )
    rounds = [{length: _run(session, plan, length) for length in plan.prompt_tokens}]
    for number in range(plan.runs):
        progress(f"run {number + 1} of {plan.runs}", number / plan.runs)
        rounds.append({length: _run(session, plan, length) for length in plan.prompt_tokens})
    del rounds[0]
    return [_row(plan, length, [each[length] for each in rounds]) for length in plan.prompt_tokens]


def _run(session: Session, plan: BenchPlan, prompt_tokens: int) -> dict[str, float]:
    """One generation; its quantities by name."""
    prompts = np.random.default_rng(SEED).integers(0, session.vocab_size, (plan.batch, prompt_tokens))
    generation = generate(session, list(prompts), SamplingParams(greedy=True), plan.new_tokens)
    next(generation)
    inside_before = session.run_s
    for _ in generation:
        pass
    inside = session.run_s - inside_before
    return _quantities(plan, prompt_tokens, generation.timings, inside)


def _quantities(plan: BenchPlan, prompt_tokens: int, timings: DecodeTimings, inside: float) -> dict[str, float]:
    """Speeds of one run; `inside` is the seconds of the decode steps spent in the model's own run."""
    overhead = timings.decode_s - inside
    return {
        "prefill_tokens_per_s": plan.batch * prompt_tokens / timings.prefill_s,
        "decode_tokens_per_s": plan.batch * timings.decode_steps / timings.decode_s,
        "time_to_first_token_s": timings.time_to_first_token_s,
        "step_s": timings.decode_s / timings.decode_steps,
        "step_overhead_s": overhead / timings.decode_steps,
        "step_overhead_share": overhead / timings.decode_s,
    }


def _row(plan: BenchPlan, prompt_tokens: int, runs: list[dict[str, float]]) -> BenchRow:
    quantities = {name: Spread.of([run[name] for run in runs]) for name in runs[0]}
    return BenchRow(prompt_tokens, plan.new_tokens, plan.batch, plan.runs, quantities)


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
    rows = measure(session, plan, progress)
    machine = describe_machine()
    entry = artifact.entry
    built = Plan.read(artifact.graph) if artifact.graph.suffix == PLAN_SUFFIX else None
    return BenchReport(
        machine=machine,
        artifact={
            "path": str(path),
            "graph": str(artifact.graph),
            "target": session.facts.target,
            "precision": entry.precision if entry else session.facts.precision,
            "kv_cache": None if built else session.facts.kv_dtype.name,
            "kv_bytes_per_token": None if built else session.facts.kv_bytes_per_slot,
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


def describe_machine() -> dict[str, Any]:
    """The machine and the versions that a measurement depends on, in values that JSON holds.

    Returns:
        `cpu` (its name), `cores` (those that this process may use), `system`, `python`, `onnxruntime`, `numpy`.
    """
    return {
        "cpu": cpu_name(),
        "cores": usable_cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "onnxruntime": onnxruntime_version(),
        "numpy": version("numpy"),
    }


def cpu_name() -> str:
    """The processor's name as the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith(("model name", "Model")):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def gpu_name() -> str | None:
    """The first NVIDIA GPU's name as its driver tells it, None where there is none."""
    from .tensorrt.cuda import CudaLibrary, find_device

    try:
        return find_device(CudaLibrary()).name
    except MissingError:
        return None


def usable_cores() -> int:
    """Logical cores that this process may run on."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def onnxruntime_version() -> str:
    """The version of onnxruntime, whichever distribution brought it."""
    return str(import_onnxruntime().__version__)


def peak_rss_bytes() -> int | None:
    """The most memory that this process has held, bytes; None where the system does not tell."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
