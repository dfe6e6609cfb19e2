"""A session on TensorRT: the cache never leaves the device, and a decode step is one launch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ContextLengthError
from ..session.session import Logits, TokenIds
from ..session.static_session import StaticSession
from .execution import Execution
from .interfaces import Context, Driver
from .plan import Plan
from .static_buffers import StaticBuffers

REMEDY = "build the plan with a larger --max-length"


class TensorRTSession(StaticSession):
    """A `Session` that runs a plan with a static cache; make one with `load_plan`.

    Args:
        plan: What the plan is.
        driver: Of the device.
        contexts: One for prefill and one for decode, their profiles set.
        max_length: Most positions, None for the plan's own limit, which stands where it is less.
        records_steps: Whether to record the decode step as a CUDA graph.
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
        records_steps: bool = True,
        reason: Callable[[], str] = lambda: "no reason given",
    ) -> None:
        self.facts = plan
        buffers = StaticBuffers(driver, plan)
        self._execution = Execution(plan, driver, contexts, buffers, records_steps=records_steps, reason=reason)
        capacity = plan.cache.capacity
        super().__init__(
            vocab_size=plan.vocab_size,
            max_length=capacity if max_length is None else min(capacity, max_length),
            chunk=plan.max_chunk,
            remedy=REMEDY,
        )

    def cache(self) -> list[NDArray[np.floating[Any]]]:
        """A copy of what is cached: every key and value by turns, each `[B, H_kv, length, D]`; padding is zeros."""
        tensors = self._execution.buffers.read_cache(self._batch_size)
        return [self._rows.spread(each, self._length) for each in tensors]

    def experts(self) -> list[NDArray[np.int64]]:
        """The experts that the last run chose, for each layer `[B, S, k]`; empty for a dense model."""
        return self._execution.buffers.read_experts()

    def _reserve(self, batch_size: int) -> None:
        """See `ChunkSession._reserve`.

        Raises:
            UsageError: The plan was built for fewer rows.
        """
        self._execution.reserve(batch_size)

    def _run(self, tokens: TokenIds, written: TokenIds, last: TokenIds) -> Logits:
        """See `StaticSession._run`.

        Raises:
            ContextLengthError: A row would write past the cache's end, which the device drops without a word.
        """
        length = tokens.shape[1]
        if int(written.max()) + length > self.facts.cache.capacity:
            raise ContextLengthError(f"{length} tokens do not fit behind slot {int(written.max())}; {REMEDY}")
        return self._execution.run({"input_ids": tokens, "write_indices": written, "last_index": last})
