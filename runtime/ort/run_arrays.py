"""What a run reads beside the cache, and where its logits go."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..session.session import Logits, TokenIds
from .buffers import DeviceMemory, zeros

LOGITS_START = "logits_start"
"""Optional input of a graph, int64 [1]: the first of a chunk's tokens whose logits are wanted."""

LOGITS_DTYPE = np.dtype(np.float32)

KEPT_TOKENS = 32
"""Chunks of at most so many tokens a row keep their arrays: steps and drafts come again and again."""

KEPT_BYTES = 16 << 20
"""Most memory for the logits that are kept; a large batch or vocabulary keeps those of fewer tokens."""


class RunArrays:
    """The arrays of runs of one size, and ONNX Runtime's values over them.

    Args:
        host: Makes the values.
        size: S, tokens of a row.
        logits: `[B, R, V]` float32, of the last R tokens of each row.

    Attributes:
        ids: `[B, S]` int64, to be filled.
        positions: `[B, S]` int64, to be filled.
    """

    def __init__(self, host: DeviceMemory, size: int, logits: Logits) -> None:
        self.ids: TokenIds = np.zeros((len(logits), size), np.int64)
        self.positions: TokenIds = np.zeros((len(logits), size), np.int64)
        self.logits = logits
        self.start = size - logits.shape[1]
        self.inputs = {"input_ids": host.put(self.ids), "position_ids": host.put(self.positions)}
        self.output = host.put(logits)


class BoundArrays:
    """The arrays that the next run reads and writes, bound to one IOBinding for one batch size.

    Args:
        binding: The session's IOBinding.
        host: Makes values of ONNX Runtime over arrays in the host's memory.
        batch_size: B.
        vocab_size: V.
        takes_start: Whether the graph has the input `logits_start`; else it computes the logits of every token.
        on_cpu: Whether the graph runs there; elsewhere inputs are copied when they are bound.

    Raises:
        MissingError: There is no memory for them.
    """

    def __init__(
        self, binding: Any, host: DeviceMemory, batch_size: int, vocab_size: int, *, takes_start: bool, on_cpu: bool
    ) -> None:
        self._binding = binding
        self._host = host
        self._takes_start = takes_start
        self._on_cpu = on_cpu
        self._row = (batch_size, vocab_size)
        self._kept_tokens = max(1, min(KEPT_TOKENS, KEPT_BYTES // (batch_size * vocab_size * LOGITS_DTYPE.itemsize)))
        self._kept_logits: Logits = zeros((batch_size * self._kept_tokens * vocab_size,), LOGITS_DTYPE)
        self._kept: dict[int, RunArrays] = {}
        self._bound: RunArrays | None = None
        self._start: TokenIds = np.zeros(1, np.int64)
        self._start_value = host.put(self._start)

    def take(self, size: int, first: int = 0) -> RunArrays:
        """Arrays for a chunk; those of a small one are the same each time.

        Args:
            size: S, tokens of a row.
            first: Of which token on the logits are wanted; a graph that cannot be told gives all of them.

        Raises:
            MissingError: There is no memory for them.
        """
        arrays = self._kept.get(size)
        if arrays is None or first:
            arrays = RunArrays(self._host, size, self._logits(size - first if self._takes_start else size))
            if size <= self._kept_tokens and not first:
                self._kept[size] = arrays
        return arrays

    def bind(self, arrays: RunArrays) -> None:
        """Have the next run read these, which are filled already, and write their logits."""
        if arrays is self._bound and self._on_cpu:
            return
        for name, value in arrays.inputs.items():
            self._binding.bind_ortvalue_input(name, value)
        if self._takes_start:
            self._start[0] = arrays.start
            self._binding.bind_ortvalue_input(LOGITS_START, self._start_value)
        self._binding.bind_ortvalue_output("logits", arrays.output)
        self._bound = arrays  # and kept, because a binding need not keep its values alive

    def _logits(self, count: int) -> Logits:
        """Room for the logits of `count` tokens of each row; all that is small shares the same memory."""
        batch_size, vocab_size = self._row
        shape = (batch_size, count, vocab_size)
        if count > self._kept_tokens:
            return zeros(shape, LOGITS_DTYPE)
        return self._kept_logits[: batch_size * count * vocab_size].reshape(shape)
