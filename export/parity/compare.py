"""Hold a graph against the model it was made from."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ExportError
from .case import Case
from .comparison import measure
from .graph_file import expert_names, open_session, read_facts, with_outputs
from .measurement import Measurement
from .ort_runner import GrowingRunner, SharedBufferRunner
from .reference import RowReference, greedy_case, reference_of
from .report import ParityReport
from .runner import GraphRunner
from .session_runner import SessionRunner
from .suite import Suite
from .tolerance import Tolerance, tolerance_of

if TYPE_CHECKING:
    from minimind_edge.minimind import MiniMindForCausalLM

Progress = Callable[[str, float], None]

GREEDY_STEPS = 64
THOROUGH_GREEDY_STEPS = 200

TARGETS = ("portable", "ort")


def compare(
    model: MiniMindForCausalLM,
    graph: Path,
    *,
    target: str,
    precision: str,
    steps: int | None = None,
    thorough: bool = False,
    progress: Progress | None = None,
) -> ParityReport:
    """Compare a graph with eager PyTorch: by onnxruntime, for `ort` in one shared buffer too, and by the runtime.

    Args:
        model: What the graph was made from, in float32 on the CPU.
        graph: The `.onnx` file.
        target: `portable` or `ort`.
        precision: Picks the bounds, see `tolerance_of`.
        steps: Greedy tokens; None for 64, or 200 where `thorough`. Fewer where the graph's length doesn't hold them.
        thorough: More prompts, more ways to cut them.
        progress: Called with a case's name and the share of the cases that are done.

    Returns:
        The report; it is falsy where the graph is out of tolerance.

    Raises:
        ExportError: The graph cannot be loaded or is of another kind than said, or there is no way to compare it.
    """
    tolerance = tolerance_of(precision, model.config.num_hidden_layers)
    if target not in TARGETS:
        raise ExportError(f"no way to compare a graph for target {target!r}: expected one of {', '.join(TARGETS)}")
    runners, max_length = _runners(model, graph, target, precision)
    suite = Suite(model.config.vocab_size, max_length, thorough)
    steps = (THOROUGH_GREEDY_STEPS if thorough else GREEDY_STEPS) if steps is None else steps
    return compare_runners(
        model, runners, suite, tolerance, target=target, precision=precision, steps=steps, progress=progress
    )


def compare_runners(
    model: MiniMindForCausalLM,
    runners: Sequence[GraphRunner],
    suite: Suite,
    tolerance: Tolerance,
    *,
    target: str,
    precision: str,
    steps: int,
    progress: Progress | None = None,
) -> ParityReport:
    """Compare whatever can run a chunk; see `compare`. The first runner should show its cache and its experts.

    Raises:
        ExportError: The model is not in float32 on the CPU.
    """
    started = time.perf_counter()
    _require_float32(model)
    tell = progress or (lambda name, done: None)
    measurements: list[Measurement] = []
    cases = list(suite.cases())
    with _evaluating(model):
        for index, case in enumerate(cases):
            tell(case.name, index / (len(cases) + 1))
            measurements += _measure_all(case, reference_of(model, case), runners, tolerance)
        if steps > 0:
            tell("greedy", len(cases) / (len(cases) + 1))
            case, reference = greedy_case(model, suite.greedy_prompt(), suite.greedy_steps(steps))
            measurements += _measure_all(case, reference, runners, tolerance)
    return ParityReport.of(
        measurements,
        tolerance,
        target=target,
        precision=precision,
        has_experts=model.config.use_moe,
        seconds=time.perf_counter() - started,
    )


def _measure_all(
    case: Case, reference: list[RowReference], runners: Sequence[GraphRunner], tolerance: Tolerance
) -> Iterator[Measurement]:
    """One case through all runners that can run it; the first one's routes tell what the others are compared at."""
    comparable = None
    for runner in runners:
        if case.positions is not None and runner.last_token_only:
            continue
        one = measure(case, reference, runner, comparable, tolerance.routes_may_differ)
        if comparable is None and one.defect is None and not runner.last_token_only:
            comparable = one.comparable
        yield one


def _runners(model: MiniMindForCausalLM, path: Path, target: str, precision: str) -> tuple[list[GraphRunner], int]:
    """All ways to run the graph, and the positions it has."""
    from minimind_edge.runtime.ort_session import OrtSession

    config, session = model.config, open_session(path)
    facts = read_facts(session, config, target, precision)
    max_length = facts.max_length or config.max_position_embeddings
    runners: list[GraphRunner] = []
    if config.use_moe:
        names = expert_names(config.num_hidden_layers)
        runners.append(GrowingRunner(open_session(with_outputs(path, names), path.parent), facts, names))
    else:
        runners.append(GrowingRunner(session, facts))
    if target == "ort":
        runners.append(SharedBufferRunner(session, facts))
    runners.append(SessionRunner(OrtSession.load(path, device="cpu", max_length=max_length)))
    return runners, max_length


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
