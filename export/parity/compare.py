"""Compare a graph with the eager PyTorch model that it was made from."""

from __future__ import annotations

import ctypes
import gc
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..artifact.staging import temporary_folder
from ..errors import ExportError
from ..progress import Progress, Share, silent, stage_share
from .case import Case, Suite
from .graph_file import float32_copy, open_session, read_facts
from .measurement import Flags, Measurement, measure
from .reference import EagerReference, RowReference, eager_reference, greedy_case, row_references
from .report import ParityReport
from .runner import GraphRunner, SessionRunner, runners_of
from .tolerance import Tolerance, int8_cache_tolerance, tolerance_of

if TYPE_CHECKING:
    from minimind_edge.minimind import MiniMindForCausalLM
    from minimind_edge.runtime.session.session import Session
    from minimind_edge.runtime.tensorrt.plan import Plan

GREEDY_STEPS = 64
THOROUGH_GREEDY_STEPS = 200

TARGETS = ("portable", "ort", "tensorrt")


def compare(
    reference: MiniMindForCausalLM | EagerReference,
    graph: Path,
    *,
    target: str,
    precision: str,
    tolerance: Tolerance | None = None,
    steps: int | None = None,
    thorough: bool = False,
    release: bool = False,
    native: bool = False,
    progress: Progress | None = None,
) -> ParityReport:
    """Compare a graph with eager PyTorch in each way that it can be run, see `runners_of`.

    A bfloat16 graph is compared by its copy in rounded float32, see `float32_copy`.

    Args:
        reference: The model that the graph was made from, in float32 on the CPU: our own, or any eager model.
        graph: The `.onnx` file.
        target: `portable`, `ort` or `tensorrt`.
        precision: The graph's precision.
        tolerance: The bounds; None for those of the precision, see `tolerance_of`. An int8 KV cache widens them.
        steps: Greedy tokens; None for 64, or 200 where `thorough`. Fewer where the graph's length doesn't hold them.
        thorough: Whether to run more prompts, cut in more ways.
        release: Whether to free the reference's weights once its results are there; it cannot be run afterwards.
        native: Whether to run the graph with native operators too, where this machine's sessions do.
        progress: Called with a runner's name and the share of the whole that is done.

    Returns:
        The report; it is falsy where the graph is out of tolerance.

    Raises:
        ExportError: The graph cannot be loaded or is of another kind than said, or there is no way to compare it.
    """
    reference = eager_reference(reference)
    shape = reference.shape
    tolerance = tolerance or tolerance_of(precision, shape.num_hidden_layers)
    if target not in TARGETS:
        raise ExportError(f"no way to compare a graph for target {target!r}: expected one of {', '.join(TARGETS)}")
    with _runnable(graph, precision) as runnable:
        facts = read_facts(open_session(runnable), shape, target, precision)
        if facts.has_int8_cache:
            tolerance = int8_cache_tolerance(tolerance, facts.num_layers)
        suite = Suite(
            shape.vocab_size,
            facts.max_length or shape.max_position_embeddings,
            thorough,
            long_prompt=shape.long_prompt if thorough and facts.has_row_lengths else None,
        )
        if steps is None:
            steps = THOROUGH_GREEDY_STEPS if thorough else GREEDY_STEPS
        return compare_runners(
            reference,
            runners_of(runnable, facts, has_experts=shape.shows_experts, native=native),
            suite,
            tolerance,
            target=target,
            precision=precision,
            steps=steps,
            release=release,
            progress=progress,
        )


def compare_plan(
    reference: MiniMindForCausalLM | EagerReference,
    session: Session,
    plan: Plan,
    *,
    progress: Progress | None = None,
) -> ParityReport:
    """Compare a TensorRT plan with eager PyTorch, thoroughly, in the cases that fit its limits.

    Args:
        reference: See `compare`.
        session: The plan's session.
        plan: The description of the plan.
        progress: See `compare`.

    Raises:
        ExportError: Our own model is not in float32 on the CPU.
    """
    reference = eager_reference(reference)
    suite = Suite(
        plan.vocab_size,
        plan.cache.capacity,
        thorough=True,
        long_prompt=reference.shape.long_prompt,
        max_batch=plan.max_batch,
    )
    return compare_runners(
        reference,
        [lambda: GraphRunner(lambda slots: session, "plan")],
        suite,
        tolerance_of(plan.precision, plan.cache.num_layers),
        target="tensorrt",
        precision=plan.precision,
        steps=suite.greedy_steps(THOROUGH_GREEDY_STEPS),
        progress=progress,
        shows_experts=bool(plan.experts),
    )


def compare_runners(
    reference: MiniMindForCausalLM | EagerReference,
    runners: Sequence[Callable[[], SessionRunner]],
    suite: Suite,
    tolerance: Tolerance,
    *,
    target: str,
    precision: str,
    steps: int,
    release: bool = False,
    progress: Progress | None = None,
    shows_experts: bool = True,
) -> ParityReport:
    """Compare any candidates that can run a chunk; see `compare`.

    Args:
        reference: See `compare`.
        runners: Functions that make the candidates; they are called one after the other, so that no two candidates are
            in memory at once. The first candidate should show its experts: the others are compared at the tokens that
            took eager's route there.
        suite: The cases.
        tolerance: The bounds.
        target: The graph's target, for the report.
        precision: The graph's precision, for the report.
        steps: The number of greedy tokens; with none the report fails.
        release: See `compare`.
        progress: See `compare`.
        shows_experts: Whether a runner shows the experts that it chose, without which a report then fails.

    Raises:
        ExportError: Our own model is not in float32 on the CPU.
    """
    started, tell = time.perf_counter(), progress or silent
    reference = eager_reference(reference)
    stages = 1 + len(runners)
    return_freed_memory()
    cases = _reference_cases(reference, suite, steps, stage_share(tell, "eager", 0.0, 1 / stages))
    if release:
        reference.release()
        return_freed_memory()
    comparable: dict[str, Flags] = {}
    measurements: list[Measurement] = []
    for index, make_runner in enumerate(runners):
        runner = make_runner()
        share = stage_share(tell, runner.name, (1 + index) / stages, (2 + index) / stages)
        for done, (case, rows) in enumerate(cases):
            share(done / len(cases))
            if case.positions is None or not runner.counts_positions:
                one = measure(case, rows, runner, comparable.get(case.name), tolerance.routes_may_differ)
                measurements.append(one)
                if one.case_comparable is not None:
                    comparable.setdefault(case.name, one.case_comparable)
        del runner
        return_freed_memory()
    return ParityReport.of(
        measurements,
        tolerance,
        reference=reference.name,
        target=target,
        precision=precision,
        has_experts=reference.shape.shows_experts and shows_experts,
        seconds=time.perf_counter() - started,
    )


def _reference_cases(
    reference: EagerReference, suite: Suite, steps: int, progress: Share
) -> list[tuple[Case, list[RowReference]]]:
    """Every case with eager's results, the greedy one last."""
    wanted = list(suite.cases())
    cases = []
    for done, case in enumerate(wanted):
        progress(done / (1 + len(wanted)))
        cases.append((case, row_references(reference, case)))
    if steps > 0:
        progress(len(wanted) / (1 + len(wanted)))
        cases.append(greedy_case(reference, suite.greedy_prompt(), suite.greedy_steps(steps)))
    return cases


@contextmanager
def _runnable(graph: Path, precision: str) -> Iterator[Path]:
    """Yield the graph, or its float32 copy where onnxruntime cannot calculate in its precision."""
    if precision != "bf16":
        yield graph
        return
    with temporary_folder() as folder:
        copy = folder / graph.name
        float32_copy(graph, copy)
        yield copy


def return_freed_memory() -> None:
    """Hand freed memory back to the system, where the C library can (glibc).

    It keeps freed blocks for later requests of similar sizes; ONNX Runtime's sizes differ from PyTorch's, so without
    this the memory peak of an export is the sum of arrays that never existed at the same time.
    """
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
