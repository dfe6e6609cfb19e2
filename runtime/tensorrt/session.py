"""A session on TensorRT: the cache never leaves the device, and a decode step is one launch."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ContextLengthError, UsageError
from ..session import Logits, TokenIds
from ..static_session import StaticSession
from .buffers import DeviceBuffers
from .interfaces import Context, Driver
from .launcher import Launcher
from .plan import Plan

REMEDY = "build the plan with a larger --max-length"


class TensorRTSession(StaticSession):
    """A `Session` that runs a plan; make one with `TensorRTSession.load`.

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
        self._buffers = DeviceBuffers(driver, plan)
        prefill, decode = contexts
        self._prefill = Launcher(driver, prefill, self._buffers, reason, records=False)
        self._decode = Launcher(driver, decode, self._buffers, reason, records=records_steps)
        capacity = plan.cache.capacity
        super().__init__(
            vocab_size=plan.vocab_size,
            max_length=capacity if max_length is None else min(capacity, max_length),
            chunk=plan.max_chunk,
            remedy=REMEDY,
        )

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], *, max_length: int | None = None, device_ordinal: int = 0
    ) -> TensorRTSession:
        """Load a plan on a GPU.

        Args:
            path: The `.plan`, its `.plan.json` beside it.
            max_length: Most positions, None for the plan's own limit, which stands where it is less.
            device_ordinal: Number of the GPU.

        Raises:
            ArtifactError: The plan or its description is missing, damaged or foreign.
            MissingError: There is no driver, GPU or TensorRT for it, or no memory.
            UsageError: `max_length` is less than 1.
        """
        from .cuda_driver import CudaDriver
        from .loading import LoadedEngine
        from .preflight import require_backend, require_device

        plan = Plan.read(path)
        data = plan.load_bytes()
        library, device = require_device(plan, device_ordinal)
        backend = require_backend(plan)
        driver = CudaDriver(library, device)
        loaded = LoadedEngine(backend, plan, data)
        return cls(
            plan,
            driver,
            loaded.contexts(driver),
            max_length=max_length,
            records_steps=not loaded.replays_by_itself,
            reason=loaded.reason,
        )

    def cache(self) -> list[NDArray[np.floating[Any]]]:
        """A copy of what is cached: every key and value by turns, each `[B, H_kv, length, D]`; padding is zeros."""
        tensors = self._buffers.read_cache(self._batch_size)
        return [self._rows.spread(each, self._length) for each in tensors]

    def _reserve(self, batch_size: int) -> None:
        """See `StaticSession._reserve`.

        Raises:
            UsageError: The plan was built for fewer rows.
        """
        if batch_size > self.facts.max_batch:
            raise UsageError(
                f"{batch_size} rows exceed the {self.facts.max_batch} that {self.facts.path} was built for; "
                f"build it with --max-batch {batch_size}"
            )
        if self._buffers.reserve(batch_size):
            self._prefill.bind()
            self._decode.bind()

    def _run(self, tokens: TokenIds, written: TokenIds, last: TokenIds) -> Logits:
        """See `StaticSession._run`.

        Raises:
            ContextLengthError: A row would write past the cache's end, which the device drops without a word.
        """
        batch_size, length = tokens.shape
        if int(written.max()) + length > self.facts.cache.capacity:
            raise ContextLengthError(f"{length} tokens do not fit behind slot {int(written.max())}; {REMEDY}")
        buffers = self._buffers
        buffers.input_ids(batch_size, length)[:] = tokens
        buffers.write_indices[:batch_size] = written
        buffers.last_index[:batch_size] = last
        launcher = self._decode if length == 1 else self._prefill
        launcher.run(batch_size, length)
        return buffers.logits(batch_size)
