"""A session on TensorRT for plans whose cache grows: for a TensorRT older than `TensorScatter`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ContextLengthError
from ..session.growing_session import GrowingSession
from ..session.session import Logits, TokenIds
from .execution import Execution
from .growing_buffers import GrowingBuffers
from .interfaces import Context, Driver
from .plan import Plan

REMEDY = "build the plan with a larger --max-length"


class GrowingTensorRTSession(GrowingSession):
    """A `Session` that runs a plan with a growing cache; make one with `load_plan`.

    Each run reads the past from one set of buffers and writes into the other. Shapes and addresses differ from step to
    step, so that no step can be recorded as a CUDA graph.

    Args:
        plan: What the plan is.
        driver: Of the device.
        contexts: One for prefill and one for decode, their profiles set.
        max_length: Most positions, None for the plan's own limit, which stands where it is less.
        reason: What TensorRT said last of what went wrong.

    Attributes:
        facts: What is known of the plan.
        device: `cuda`.

    Raises:
        MissingError: The device has no room.
        UsageError: `max_length` is less than 1.
    """

    device = "cuda"

    def __init__(
        self,
        plan: Plan,
        driver: Driver,
        contexts: tuple[Context, Context],
        *,
        max_length: int | None = None,
        reason: Callable[[], str] = lambda: "no reason given",
    ) -> None:
        self.facts = plan
        buffers = GrowingBuffers(driver, plan)
        self._execution = Execution(plan, driver, contexts, buffers, records_steps=False, reason=reason)
        capacity = plan.cache.capacity
        super().__init__(
            vocab_size=plan.vocab_size,
            max_length=capacity if max_length is None else min(capacity, max_length),
            chunk=plan.max_chunk,
            remedy=REMEDY,
        )

    def cache(self) -> list[NDArray[np.floating[Any]]]:
        """A copy of what is cached: every key and value by turns, each `[B, H_kv, length, D]`."""
        self._execution.buffers.keep(self._batch_size, self._length)
        return self._execution.buffers.read_cache(self._batch_size)

    def experts(self) -> list[NDArray[np.int64]]:
        """The experts that the last run chose, for each layer `[B, S, k]`; empty for a dense model."""
        return self._execution.buffers.read_experts()

    def _reserve(self, batch_size: int) -> None:
        """See `ChunkSession._reserve`.

        Raises:
            UsageError: The plan was built for fewer rows.
        """
        self._execution.reserve(batch_size)
        self._execution.buffers.keep(batch_size, 0)

    def _run(self, tokens: TokenIds, mask: NDArray[np.bool_], positions: TokenIds, last: TokenIds) -> Logits:
        """See `GrowingSession._run`; where it fails, the session is as it was.

        Raises:
            ContextLengthError: The buffers have no room.
        """
        total = mask.shape[1]
        if total > self.facts.cache.capacity:
            raise ContextLengthError(f"{total} slots do not fit in {self.facts.cache.capacity}; {REMEDY}")
        buffers = self._execution.buffers
        buffers.keep(len(tokens), total - tokens.shape[1])
        inputs = {"input_ids": tokens, "attention_mask": mask, "position_ids": positions, "last_index": last}
        logits = self._execution.run(inputs, moved=True)
        buffers.turn()
        return logits
