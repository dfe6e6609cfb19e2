"""Benchmark of a session: speed of prefill and decode, time to first token, and Python overhead of a decode step."""

from __future__ import annotations

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

from .artifact.folder import Artifact
from .decode import DecodeTimings, generate
from .errors import MissingError, UsageError
from .load import load_session
from .ort.environment import cpu_name, import_onnxruntime, physical_cores, usable_cores
from .sampling import SamplingParams
from .session.session import Session
from .tensorrt import PLAN_SUFFIX
from .tensorrt.plan import Plan

SEED = 0


@dataclass(frozen=True)
class BenchPlan:
    """The measurements to make.

    Attributes:
        prompt_tokens: Lengths of the prompts in tokens; each gives one row of results.
        new_tokens: Tokens generated after each prompt, at least 2: the first one belongs to the prefill.
        batch: Rows generated at once.
        runs: Measured runs for each row of results, after one run to warm up.

    Raises:
        UsageError: A number is too small.
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
    """The median and the range of a quantity over several runs."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Summarize at least one value."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class BenchRow:
    """The measurements for one prompt length.

    Attributes:
        prompt_tokens: Length of each prompt in tokens.
        new_tokens: Tokens generated after each prompt.
        batch: Rows generated at once.
        runs: Number of measured runs.
        quantities: `prefill_tokens_per_s` and `decode_tokens_per_s` of all rows of the batch together;
            `time_to_first_token_s`; `step_s`, the seconds of a decode step; `step_overhead_s`, its seconds outside of
            the model's own run; `step_overhead_share`, their share of `step_s`.
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
    """Measure greedy generation from random tokens; each round runs every row once, so that noise affects all alike.

    Args:
        session: The session to measure.
        plan: The measurements to make.
        progress: Called with the name of a stage and the share of the work that is done, 0 to 1.

    Raises:
        UsageError: A prompt and its new tokens are longer than the session's context.
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
    """Generate once; the quantities of this run by name."""
    prompts = np.random.default_rng(SEED).integers(0, session.vocab_size, (plan.batch, prompt_tokens))
    generation = generate(session, list(prompts), SamplingParams(greedy=True), plan.new_tokens)
    next(generation)
    inside_before = session.run_s
    for _ in generation:
        pass
    inside = session.run_s - inside_before
    return _quantities(plan, prompt_tokens, generation.timings, inside)


def _quantities(plan: BenchPlan, prompt_tokens: int, timings: DecodeTimings, inside: float) -> dict[str, float]:
    """The quantities of one run; `inside` is the seconds of its decode steps in the model's own run."""
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
    """A benchmark's results, with the machine and the artifact that they belong to.

    Attributes:
        machine: Machine and versions, as `describe_machine` gives them.
        artifact: `path`, `graph`, `target` and `precision` if recorded, `kv_cache` (dtype) and `kv_bytes_per_token` of
            a graph, `runs_by` (the library that ran it, with its version), `operators` (`stock` or `native`; None of a
            plan), `device`, and the name of the `gpu` or None.
        threads: Threads for one operator; None where ONNX Runtime chose by itself, and for a plan.
        rows: Results, one row for each prompt length.
        load_s: Seconds to open the artifact and make its session, `import onnxruntime` included.
        peak_rss_bytes: Largest memory of the process in bytes; None where the system does not report it.
        disk_bytes: Size of the graph and its weights in bytes.
    """

    machine: dict[str, Any]
    artifact: dict[str, Any]
    threads: int | None
    rows: tuple[BenchRow, ...]
    load_s: float
    peak_rss_bytes: int | None
    disk_bytes: int

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON object."""
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
    """Load an artifact and measure it.

    Args:
        path: An artifact folder, a graph or a TensorRT plan.
        plan: The measurements to make.
        threads: Threads for one operator; None for the physical cores.
        device: `auto`, `cpu`, `cuda`, `tensorrt` or `rtx`.
        progress: Called with the name of a stage and the share of the work that is done, 0 to 1.

    Raises:
        EdgeError: The artifact cannot be run, or a measurement exceeds its limits.
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
            "operators": None if built else session.facts.operators,
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
    """The size in bytes of a graph and of its weights in `NAME.onnx_data` next to it."""
    return sum(file.stat().st_size for file in (graph, graph.with_name(f"{graph.name}_data")) if file.is_file())


def describe_machine() -> dict[str, Any]:
    """The machine and the versions that a measurement depends on, as JSON values.

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


def gpu_name() -> str | None:
    """The first NVIDIA GPU's name as its driver reports it, None where there is none."""
    from .tensorrt.cuda import CudaLibrary, find_device

    try:
        return find_device(CudaLibrary()).name
    except MissingError:
        return None


def onnxruntime_version() -> str:
    """The version of onnxruntime, whichever distribution installed it."""
    return str(import_onnxruntime().__version__)


def peak_rss_bytes() -> int | None:
    """The largest memory that this process has held, in bytes; None where the system does not report it."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
