"""Parity of a plan: how it is run, chunk by chunk, on its GPU, and the cases that fit its limits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from minimind_edge.runtime.tensorrt.opening import PlanSession
from minimind_edge.runtime.tensorrt.plan import Plan

from ..parity.case import PADDING, Case, Chunk, Integers, Suite
from ..parity.compare import THOROUGH_GREEDY_STEPS, compare_runners
from ..parity.reference import EagerReference, ModelShape, eager_reference
from ..parity.report import ParityReport
from ..parity.runner import Presents, StepOutput
from ..parity.session_runner import SessionRunner
from ..parity.tolerance import tolerance_of
from ..progress import Progress

if TYPE_CHECKING:
    from minimind_edge.minimind import MiniMindForCausalLM


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
    """The cases of a comparison that fit a plan's limits.

    Args:
        plan: The plan.
        shape: The sizes of the model that it is compared with.
    """

    def __init__(self, plan: Plan, shape: ModelShape) -> None:
        super().__init__(plan.vocab_size, plan.cache.capacity, thorough=True, long_prompt=shape.long_prompt)
        self._max_batch = plan.max_batch

    def cases(self) -> Iterator[Case]:
        """See `Suite.cases`; batches of more rows than the plan's are left out."""
        return (case for case in super().cases() if len(case.rows) <= self._max_batch)


def compare_plan(
    reference: MiniMindForCausalLM | EagerReference, session: PlanSession, progress: Progress | None = None
) -> ParityReport:
    """Compare a plan with eager PyTorch, thoroughly.

    Args:
        reference: See `parity.compare`.
        session: The plan's session.
        progress: Called with a runner's name and the share of the whole that is done.

    Returns:
        The report; it is falsy where the plan is out of tolerance.

    Raises:
        ExportError: The reference is not in float32 on the CPU.
    """
    reference, plan = eager_reference(reference), session.facts
    suite = PlanSuite(plan, reference.shape)
    return compare_runners(
        reference,
        [lambda: PlanRunner(session)],
        suite,
        tolerance_of(plan.precision, plan.cache.num_layers),
        target="tensorrt",
        precision=plan.precision,
        steps=suite.greedy_steps(THOROUGH_GREEDY_STEPS),
        progress=progress,
        shows_experts=bool(plan.experts),
    )
