"""A session on TensorRT: the cache never leaves the device, and a decode step is one launch."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ContextLengthError, PromptError, UsageError
from ..session import Logits, TokenIds
from ..token_checks import check_positive, check_prompt, check_room, check_step
from .buffers import DeviceBuffers
from .interfaces import Context, Driver
from .launcher import Launcher
from .plan import Plan
from .rows import Rows, left_aligned

REMEDY = "build the plan with a larger --max-length"


class TensorRTSession:
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
        check_positive("max_length", max_length)
        self.facts = plan
        capacity = plan.cache.capacity
        self._max_length = capacity if max_length is None else min(capacity, max_length)
        self._buffers = DeviceBuffers(driver, plan)
        prefill, decode = contexts
        self._prefill = Launcher(driver, prefill, self._buffers, reason, records=False)
        self._decode = Launcher(driver, decode, self._buffers, reason, records=records_steps)
        self.reset()

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

    @property
    def batch_size(self) -> int:
        """See `Session.batch_size`."""
        return self._batch_size

    @property
    def length(self) -> int:
        """See `Session.length`; the cache itself holds no padding."""
        return self._length

    @property
    def max_length(self) -> int:
        """See `Session.max_length`."""
        return self._max_length

    @property
    def vocab_size(self) -> int:
        """See `Session.vocab_size`."""
        return self.facts.vocab_size

    def reset(self, batch_size: int = 1) -> None:
        """See `Session.reset`.

        Raises:
            UsageError: The plan was built for fewer rows.
        """
        check_positive("batch_size", batch_size)
        if batch_size > self.facts.max_batch:
            raise UsageError(
                f"{batch_size} rows exceed the {self.facts.max_batch} that {self.facts.path} was built for; "
                f"build it with --max-batch {batch_size}"
            )
        self._length = 0
        self._batch_size = batch_size
        self._rows = Rows(batch_size, self._max_length)
        if self._buffers.reserve(batch_size):
            self._prefill.bind()
            self._decode.bind()

    def truncate(self, length: int) -> None:
        """See `Session.truncate`."""
        if not 0 <= length <= self._length:
            raise UsageError(f"cannot keep {length} positions of a session that holds {self._length}")
        self._length = length
        self._rows.truncate(length)

    def prefill(self, input_ids: TokenIds, attention_mask: TokenIds | None = None) -> Logits:
        """See `Session.prefill`; a long prompt is run in chunks."""
        input_ids, mask = check_prompt(input_ids, attention_mask, self.vocab_size)
        if self._length and len(input_ids) != self._batch_size:
            raise PromptError(f"expected a chunk for {self._batch_size} rows, found {len(input_ids)}; reset first")
        check_room(self._length, input_ids.shape[1], self._max_length, REMEDY)
        if len(input_ids) != self._batch_size:
            self.reset(len(input_ids))
        logits = self._run_prompt(*left_aligned(input_ids, mask))
        self._rows.append(self._length, mask)
        self._length += input_ids.shape[1]
        return logits

    def decode(self, tokens: TokenIds) -> Logits:
        """See `Session.decode`."""
        check_step(tokens, self._batch_size, self.vocab_size)
        check_room(self._length, 1, self._max_length, REMEDY)
        self._launch(self._decode, tokens[:, None], self._rows.counts, None)
        self._rows.append_step(self._length)
        self._length += 1
        return self._buffers.logits(self._batch_size)

    def cache(self) -> list[NDArray[np.floating[Any]]]:
        """A copy of what is cached: every key and value by turns, each `[B, H_kv, length, D]`; padding is zeros."""
        tensors = self._buffers.read_cache(self._batch_size)
        return [self._rows.spread(each, self._length) for each in tensors]

    def _run_prompt(self, tokens: TokenIds, counts: TokenIds) -> Logits:
        """Run rows that begin with their real tokens.

        Args:
            tokens: `[B, W]`.
            counts: `[B]`, real tokens of each row.

        Returns:
            `[B, V]`, the logits of each row's last real token.
        """
        before = self._rows.counts
        last = np.maximum(counts, 1) - 1
        chunk = self.facts.max_chunk
        result = logits = self._buffers.logits(self._batch_size)
        if tokens.shape[1] > chunk:
            result = np.empty_like(logits)
        for start in range(0, tokens.shape[1], chunk):
            part = tokens[:, start : start + chunk]
            ends_here = (start <= last) & (last < start + part.shape[1])
            # A row that has ended goes on with padding, which no token sees before one of its own overwrites it.
            self._launch(self._prefill, part, before + start, np.where(ends_here, last - start, 0))
            if result is not logits:
                result[ends_here] = logits[ends_here]
        return result

    def _launch(self, launcher: Launcher, tokens: TokenIds, written: TokenIds, last: NDArray[np.int64] | None) -> None:
        """Run a chunk.

        Args:
            launcher: Of its profile.
            tokens: `[B, S]`.
            written: `[B]`, slot of each row's first token.
            last: `[B]`, of which token the logits are wanted; None for the first.

        Raises:
            ContextLengthError: A row would write past the cache's end, which the device drops without a word.
        """
        batch_size, length = tokens.shape
        if int(written.max()) + length > self.facts.cache.capacity:
            raise ContextLengthError(f"{length} tokens do not fit behind slot {int(written.max())}; {REMEDY}")
        buffers = self._buffers
        buffers.input_ids(batch_size, length)[:] = tokens
        buffers.write_indices[:batch_size] = written
        buffers.last_index[:batch_size] = 0 if last is None else last
        launcher.run(batch_size, length)
