"""A plan held against its checkpoint, on the GPU that runs it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from minimind_edge.runtime.tensorrt import opening
from minimind_edge.runtime.tensorrt.opening import PlanSession
from minimind_edge.runtime.tensorrt.plan import Plan

from ..errors import ExportError
from ..parity.case import PADDING, Case, Chunk, Integers
from ..parity.compare import THOROUGH_GREEDY_STEPS, compare_runners, long_prompt
from ..parity.runner import Presents, StepOutput
from ..parity.session_runner import SessionRunner
from ..parity.suite import Suite
from ..parity.tolerance import tolerance_of
from ..verification import Verification, VerifiedGraph, find_checkpoint, load_exported

if TYPE_CHECKING:
    from minimind_edge.minimind import MiniMindConfig

    from .monitor import Progress


class PlanRunner(SessionRunner):
    """A plan's session, with its cache and the experts that it chose to be seen.

    Args:
        session: Of the plan.
    """

    name = "plan"

    def __init__(self, session: PlanSession) -> None:
        super().__init__(session)
        self._plan_session = session

    def step(self, chunk: Chunk) -> StepOutput:
        """Run a chunk; of a mixture of experts in parts that are a run each, as a session shows its last run only."""
        plan = self._plan_session.facts
        if not plan.experts:
            return super().step(chunk)
        parts = []
        for start in range(0, chunk.input_ids.shape[1], plan.max_chunk):
            part = _columns(chunk, slice(start, start + plan.max_chunk))
            parts.append((part, super().step(part).logits.copy(), self._experts(part)))
        logits = parts[0][1]
        for part, later, _ in parts[1:]:
            rows = (part.layout != PADDING).any(axis=1)
            logits[rows] = later[rows]
        layers = zip(*(experts for _, _, experts in parts), strict=True)
        return StepOutput(logits, [np.concatenate(layer, axis=1) for layer in layers])

    def presents(self) -> Presents:
        """See `GraphRunner.presents`."""
        tensors = self._plan_session.cache()
        return list(zip(tensors[::2], tensors[1::2], strict=True))

    def _experts(self, chunk: Chunk) -> list[Integers]:
        """The experts of each layer, [B, S, k], where the chunk has its tokens; padding that was not run chose none."""
        found = self._plan_session.experts()
        if self._plan_session.facts.cache_form == "growing":
            return found
        order = np.argsort(chunk.layout == PADDING, axis=1, kind="stable")
        return [_moved_back(one, order) for one in found]


def _columns(chunk: Chunk, part: slice) -> Chunk:
    """Some of a chunk's slots, as a chunk behind those before them."""
    end = min(part.stop, chunk.input_ids.shape[1])
    return Chunk(
        start=chunk.start + part.start,
        input_ids=chunk.input_ids[:, part],
        attention_mask=chunk.attention_mask[:, : chunk.start + end],
        position_ids=chunk.position_ids[:, part],
        layout=chunk.layout[:, part],
    )


def _moved_back(chosen: Integers, order: Integers) -> Integers:
    """Choices [B, W, k] of rows that were moved to the left, W at most S, where their tokens came from, [B, S, k]."""
    result = np.full((*order.shape, chosen.shape[2]), PADDING)
    np.put_along_axis(result, order[:, : chosen.shape[1], None], chosen, axis=1)
    return result


class PlanSuite(Suite):
    """The cases that a plan can hold.

    Args:
        plan: Its limits are the suite's.
        config: Of the model.
    """

    def __init__(self, plan: Plan, config: MiniMindConfig) -> None:
        super().__init__(plan.vocab_size, plan.cache.capacity, thorough=True, long_prompt=long_prompt(config))
        self._max_batch = plan.max_batch

    def cases(self) -> Iterator[Case]:
        """See `Suite.cases`; batches of more rows than the plan's are left out."""
        return (case for case in super().cases() if len(case.rows) <= self._max_batch)


def verify_plan(path: Path, against: Path | None = None, progress: Progress | None = None) -> Verification:
    """Compare a plan with eager PyTorch, thoroughly.

    Args:
        path: The `.plan`, its description beside it.
        against: The checkpoint; None looks for the one that the description names: among the bundled ones, beside the
            plan's folder and in the current folder.
        progress: Called with a stage's name and the share of the whole that is done.

    Raises:
        ArtifactError: The plan or its description is missing or broken.
        MissingError: The plan cannot run here.
        ExportError: The checkpoint is not to be found, or nobody knows which one it is.
        MiniMindError: The checkpoint is not what the description says.
    """
    tell = progress or (lambda stage, done: None)
    session = opening.load_plan(path)
    plan = session.facts
    checkpoint, config = plan.description.checkpoint, plan.description.config
    if checkpoint is None or config is None:
        raise ExportError(
            f"{path} was built from a graph alone: build it from an artifact or a checkpoint to verify it"
        )
    tell("reading the checkpoint", 0.0)
    source = against or find_checkpoint(path.parent, checkpoint.file, checkpoint.sha256)
    loaded = load_exported(source, path.parent, checkpoint, config)
    report = compare_runners(
        loaded.model,
        [lambda: PlanRunner(session)],
        suite := PlanSuite(plan, loaded.model.config),
        tolerance_of(plan.precision, plan.cache.num_layers),
        target="tensorrt",
        precision=plan.precision,
        steps=suite.greedy_steps(THOROUGH_GREEDY_STEPS),
        progress=progress,
        shows_experts=bool(plan.experts),
    )
    notes = ["batches of three rows are left out: the plan holds fewer"] if plan.max_batch < 3 else []
    if loaded.model.config.use_moe and not plan.experts:
        notes.append("the experts chosen are not compared: the plan does not tell them; build it again")
    if loaded.report.sha256 != checkpoint.sha256:
        notes.append(f"{source} is not the file that the plan was built from; its weights are compared all the same")
    tell("done", 1.0)
    return Verification(path.parent, source, tuple(notes), (VerifiedGraph(path.name, False, report),))
