"""Hold a graph against the model it was made from."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ExportError
from .bfloat16_graph import float32_copy
from .case import Case
from .comparison import measure
from .graph_file import open_session, read_facts
from .measurement import Flags, Measurement
from .memory import return_freed_memory
from .reference import RowReference, greedy_case, reference_of
from .report import ParityReport
from .runner import SessionRunner, runners_of
from .suite import Suite
from .tolerance import Tolerance, int8_cache_tolerance, tolerance_of

if TYPE_CHECKING:
    from minimind_edge.minimind import MiniMindConfig, MiniMindForCausalLM

Progress = Callable[[str, float], None]

GREEDY_STEPS = 64
THOROUGH_GREEDY_STEPS = 200

TARGETS = ("portable", "ort", "tensorrt")


def compare(
    model: MiniMindForCausalLM,
    graph: Path,
    *,
    target: str,
    precision: str,
    tolerance: Tolerance | None = None,
    steps: int | None = None,
    thorough: bool = False,
    release: bool = False,
    progress: Progress | None = None,
) -> ParityReport:
    """Compare a graph with eager PyTorch: by onnxruntime, for `ort` in one shared buffer too, and by the runtime.

    A bfloat16 graph is compared by its copy in rounded float32, see `bfloat16_graph`.

    Args:
        model: What the graph was made from, in float32 on the CPU.
        graph: The `.onnx` file.
        target: `portable`, `ort` or `tensorrt`.
        precision: Of the graph.
        tolerance: The bounds; None for those of the precision, see `tolerance_of`. A cache of eight bits widens them.
        steps: Greedy tokens; None for 64, or 200 where `thorough`. Fewer where the graph's length doesn't hold them.
        thorough: More prompts, more ways to cut them.
        release: Let go of the model's weights once eager's results are there: it is of no use afterwards.
        progress: Called with a runner's name and the share of the whole that is done.

    Returns:
        The report; it is falsy where the graph is out of tolerance.

    Raises:
        ExportError: The graph cannot be loaded or is of another kind than said, or there is no way to compare it.
    """
    tolerance = tolerance or tolerance_of(precision, model.config.num_hidden_layers)
    if target not in TARGETS:
        raise ExportError(f"no way to compare a graph for target {target!r}: expected one of {', '.join(TARGETS)}")
    with _runnable(graph, precision) as runnable:
        facts = read_facts(open_session(runnable), model.config, target, precision)
        if facts.has_int8_cache:
            tolerance = int8_cache_tolerance(tolerance, facts.num_layers)
        suite = Suite(
            model.config.vocab_size,
            facts.max_length or model.config.max_position_embeddings,
            thorough,
            long_prompt=long_prompt(model.config) if thorough and facts.cache == "static" else None,
        )
        if steps is None:
            steps = THOROUGH_GREEDY_STEPS if thorough else GREEDY_STEPS
        return compare_runners(
            model,
            runners_of(runnable, facts, has_experts=model.config.use_moe),
            suite,
            tolerance,
            target=target,
            precision=precision,
            steps=steps,
            release=release,
            progress=progress,
        )


def long_prompt(config: MiniMindConfig) -> int | None:
    """Tokens after which positions lie past the original context of a scaled RoPE; None for a model without one."""
    scaling = config.rope_scaling
    original = None if scaling is None else scaling.get("original_max_position_embeddings")
    return None if original is None else int(original)


def compare_runners(
    model: MiniMindForCausalLM,
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
    """Compare whatever can run a chunk; see `compare`.

    Args:
        model: The reference.
        runners: Each makes a candidate, one after the other, so that no two are in memory at once. The first one should
            show its experts: the tokens that took eager's route there are those that the others are compared at.
        suite: Draws the cases.
        tolerance: The bounds.
        target: For the report.
        precision: For the report.
        steps: Greedy tokens; with none the report fails.
        release: See `compare`.
        progress: See `compare`.
        shows_experts: Whether a runner shows the experts that it chose: a report without them fails then.

    Raises:
        ExportError: The model is not in float32 on the CPU.
    """
    started, tell = time.perf_counter(), progress or (lambda name, done: None)
    tell("eager", 0.0)
    return_freed_memory()
    references = _references(model, suite, steps)
    if release:
        model.to("meta")
        return_freed_memory()
    comparable: dict[str, Flags] = {}
    measurements: list[Measurement] = []
    for index, make_runner in enumerate(runners):
        runner = make_runner()
        tell(runner.name, (1 + index) / (1 + len(runners)))
        for case, reference in references:
            if case.positions is None or not runner.counts_positions:
                one = measure(case, reference, runner, comparable.get(case.name), tolerance.routes_may_differ)
                measurements.append(one)
                if one.case_comparable is not None:
                    comparable.setdefault(case.name, one.case_comparable)
        del runner
        return_freed_memory()
    return ParityReport.of(
        measurements,
        tolerance,
        target=target,
        precision=precision,
        has_experts=model.config.use_moe and shows_experts,
        seconds=time.perf_counter() - started,
    )


def _references(model: MiniMindForCausalLM, suite: Suite, steps: int) -> list[tuple[Case, list[RowReference]]]:
    """Eager's results for every case, the greedy one last."""
    _require_float32(model)
    with _evaluating(model):
        references = [(case, reference_of(model, case)) for case in suite.cases()]
        if steps > 0:
            references.append(greedy_case(model, suite.greedy_prompt(), suite.greedy_steps(steps)))
    return references


@contextmanager
def _runnable(graph: Path, precision: str) -> Iterator[Path]:
    """The graph, or what stands for it where onnxruntime does not calculate in its precision."""
    if precision != "bf16":
        yield graph
        return
    with tempfile.TemporaryDirectory(prefix="minimind-edge-") as folder:
        copy = Path(folder) / graph.name
        float32_copy(graph, copy)
        yield copy


def _require_float32(model: MiniMindForCausalLM) -> None:
    import torch

    other = next((p for p in model.parameters() if p.dtype != torch.float32 or p.device.type != "cpu"), None)
    if other is not None:
        raise ExportError(f"parity needs the model in float32 on the CPU, found {other.dtype} on {other.device}")


@contextmanager
def _evaluating(model: MiniMindForCausalLM) -> Iterator[None]:
    """No dropout inside; the model's own mode behind it."""
    training = model.training
    model.train(False)
    try:
        yield
    finally:
        model.train(training)
