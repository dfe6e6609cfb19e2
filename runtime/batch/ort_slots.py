"""Slots over a graph of target `ort` on the CPU: decode runs rows of one KV buffer, a chunk the row of its slot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ArtifactError, ContextLengthError, PromptError
from ..interruption import register
from ..ort.kv_cache import bound_names, zeros
from ..ort.loading import onnxruntime_errors, run_options, summary
from ..session.contract import (
    ATTENTION_MASK,
    INPUT_IDS,
    LOGITS,
    LOGITS_START,
    POSITION_IDS,
    ROW_LENGTHS,
    ROW_TOKENS,
    GraphFacts,
)
from ..session.model import DEFAULT_MAX_LENGTH, Logits, TokenIds
from ..session.session import check_positive
from .slots import check_cache, check_held, check_slot

PAIR = 2
"""The number of last tokens of a chunk whose logits are computed, so that the last real one's are not left over."""

MASK_PAGE = 64
"""The positions by which the mask of decode steps grows, so that most steps need no new binding."""

FLOAT = np.dtype(np.float32)


def takes_rows(session: Any) -> bool:
    """Whether ONNX Runtime's session is of a graph whose rows may have lengths of their own."""
    return {node.name for node in session.get_overridable_initializers()} >= {LOGITS_START, ROW_LENGTHS}


class OrtSlots:
    """Slots that live in one buffer `[rows, H_kv, capacity, D]` for each cached tensor; see `SlotSession`.

    A decode step runs the first n rows of the buffer, a prompt's chunk the one row of its slot, both in place, so that
    rows join and leave without a copy. The graph takes the length of each row and the number of its tokens in the run;
    a row without a token keeps its cache. One without `row_tokens` writes to the position after the row's last, which
    its next token overwrites.

    A row's bits depend on whether it is the one left over: quantized products compute rows in pairs and an odd one in
    another order, and attention to floats computes blocks of tokens, and a token alone in another order. So a chunk is
    run with an even number of tokens, by one after an odd number, whose position the next token overwrites, and with
    `even_rows` a decode step has an even number of rows, by an idle one.

    Args:
        onnxruntime: The imported module.
        session: ONNX Runtime's session for the graph, on the CPU.
        slots: Number of slots.
        max_length: Most positions of a slot, where the graph's own limit is not lower; None for that limit.
        even_rows: Whether every decode step has an even number of rows.

    Attributes:
        facts: The sizes and types of the graph's inputs and outputs.
        slots: Number of slots.
        max_length: Most positions of a slot.
        vocab_size: Size V of the vocabulary.
        lengths: Positions in use of each slot, `[slots]` int64; to be read only.
        remark: None, as there is nothing to remark.
        run_s: Seconds spent so far inside ONNX Runtime.

    Raises:
        ArtifactError: The graph violates the contract.
        MissingError: There is not enough memory.
        UsageError: `slots` or `max_length` is less than 1.
    """

    def __init__(
        self,
        onnxruntime: ModuleType,
        session: Any,
        *,
        slots: int,
        max_length: int | None = None,
        even_rows: bool = False,
    ) -> None:
        check_positive("slots", slots)
        check_positive("max_length", max_length)
        metadata = session.get_modelmeta().custom_metadata_map
        self.facts = GraphFacts.read(session.get_inputs(), session.get_outputs(), metadata)
        limit = self.facts.max_length or DEFAULT_MAX_LENGTH
        self.slots = slots
        self.max_length = limit if max_length is None else min(limit, max_length)
        self.vocab_size = self.facts.vocab_size
        self.lengths: TokenIds = np.zeros(slots, np.int64)
        self.remark: str | None = None
        self.run_s = 0.0
        self._session = session
        self._errors = onnxruntime_errors(onnxruntime)
        self._run_options = run_options(onnxruntime)
        self._even_rows = even_rows
        self._takes_tokens = ROW_TOKENS in {node.name for node in session.get_overridable_initializers()}
        self._capacity = self.max_length + 1  # one more for padding after a full slot
        self._names = bound_names(self.facts)
        shape = (
            _even(slots) if even_rows else slots,
            self.facts.num_key_value_heads,
            self._capacity,
            self.facts.head_dim,
        )
        # Ones for all rows: nothing is hidden, because the operator ends each row at its own length.
        self._mask: TokenIds = np.ones((1 if self._takes_tokens else shape[0]) * self._capacity, np.int64)
        self._buffers = [zeros(shape, self.facts.kv_dtype) for _ in self._names]
        self._step = _Arrays(shape[0], 1, self.vocab_size, logits=shape[0], takes_tokens=self._takes_tokens)
        self._steps: dict[int, _Bound] = {}
        self._chunk = _Arrays(1, PAIR, self.vocab_size, logits=PAIR, takes_tokens=self._takes_tokens)
        self._chunks: dict[int, _Bound] = {}
        register(self)

    @property
    def kv_cache_bytes(self) -> int:
        """The bytes of the KV cache's buffers, of which untouched pages take no memory."""
        return sum(buffer.nbytes for buffer in self._buffers)

    def prefill(self, slot: int, token_ids: TokenIds) -> Logits:
        """Run tokens of a prompt after the cached ones of a slot; see `SlotSession.prefill`."""
        check_slot(self, slot)
        if token_ids.ndim != 1 or not token_ids.size or token_ids.dtype.kind not in "iu":
            raise PromptError(f"expected token ids [S], at least one, found {token_ids.dtype} {token_ids.shape}")
        self._check_ids(token_ids)
        count, past = len(token_ids), int(self.lengths[slot])
        self._check_room(past, count)
        size = _even(count)
        bound, arrays = self._bind_chunk(slot, size), self._chunk
        arrays.input_ids[:count] = token_ids
        arrays.position_ids[:count] = np.arange(past, past + count)
        arrays.input_ids[count:size] = 0
        arrays.position_ids[count:size] = past  # any position that the graph knows
        arrays.row_lengths[0] = past + size
        arrays.row_tokens[0] = size
        self._run(bound, past + size)
        self.lengths[slot] = past + count
        logits: Logits = arrays.logits[count - size - 1]
        return logits

    def decode(self, tokens: TokenIds, active: NDArray[np.bool_]) -> Logits:
        """Append one token to each active row of the first slots; see `SlotSession.decode`."""
        count = tokens.size
        if not 0 < count <= self.slots or tokens.ndim != 1 or tokens.dtype.kind not in "iu":
            raise PromptError(
                f"expected 1 to {self.slots} token ids, one for each slot, found {tokens.dtype} {tokens.shape}"
            )
        if active.shape != tokens.shape or active.dtype != np.bool_:
            raise PromptError(f"expected {count} flags of active rows, found {active.dtype} {active.shape}")
        arrays, lengths = self._step, self.lengths[:count]
        size = _even(count) if self._even_rows else count
        np.multiply(tokens, active, out=arrays.input_ids[:count])
        self._check_ids(arrays.input_ids[:count])
        # A row without a token attends to one position, whichever, because its result is not used.
        positions = np.multiply(lengths, active, out=arrays.position_ids[:count])
        past = int(positions.max())
        if past >= self.max_length:
            self._check_room(past, 1)
        if not self._takes_tokens:
            positions[:] = lengths
            past = int(positions.max())
        np.add(positions, 1, out=arrays.row_lengths[:count], casting="same_kind")
        arrays.row_tokens[:count] = active
        if size > count:
            idle = 0 if self._takes_tokens or count == self.slots else int(self.lengths[count])
            arrays.input_ids[count] = arrays.row_tokens[count] = 0
            arrays.position_ids[count], arrays.row_lengths[count] = idle, idle + 1
            past = max(past, idle)
        total = min((past // MASK_PAGE + 1) * MASK_PAGE, self._capacity)
        self._run(self._steps.get(size) or self._bind_step(size), total)
        lengths += active
        return arrays.logits[:count]

    def truncate(self, slot: int, length: int) -> None:
        """Drop all positions of a slot from `length` on."""
        check_held(self, slot, length)
        self.lengths[slot] = length

    def copy(self, source: int, target: int, length: int) -> None:
        """Replace a slot's positions by the first `length` of another slot."""
        check_held(self, source, length)
        check_slot(self, target)
        if source != target:
            for buffer in self._buffers:
                buffer[target, :, :length] = buffer[source, :, :length]
        self.lengths[target] = length

    def read(self, slot: int, length: int) -> list[NDArray[Any]]:
        """A copy of a slot's first `length` positions: key and value of each layer, `[H_kv, length, D]`."""
        check_held(self, slot, length)
        return [buffer[slot, :, :length].copy() for buffer in self._buffers]

    def write(self, slot: int, cache: Sequence[NDArray[Any]], length: int) -> None:
        """Replace a slot's positions by the first `length` of what `read` gave."""
        check_slot(self, slot)
        check_cache(self, cache, length)
        for buffer, array in zip(self._buffers, cache, strict=True):
            buffer[slot, :, :length] = array[:, :length]
        self.lengths[slot] = length

    def interrupt(self, *, ends: bool) -> None:
        """Stop the current run after its current operator and refuse later runs, or allow runs again."""
        self._run_options.terminate = ends

    def _run(self, bound: _Bound, total: int) -> None:
        """Run what is bound, with a mask of `total` positions, at least those of the longest row."""
        try:
            if total != bound.total:
                rows = 1 if self._takes_tokens else bound.rows
                _bind(bound.binding.bind_input, ATTENTION_MASK, self._mask, (rows, total))
                bound.total = total
            started = perf_counter()
            self._session.run_with_iobinding(bound.binding, self._run_options)
            self.run_s += perf_counter() - started
        except self._errors as error:
            raise ArtifactError(f"the graph failed within {total} positions: {summary(error)}") from error

    def _bind_step(self, rows: int) -> _Bound:
        """The binding of a decode step of the first rows, which is kept."""
        bound = self._bind_rows(0, rows)
        self._step.bind(bound.binding, rows, 1, rows)
        self._steps[rows] = bound
        return bound

    def _bind_chunk(self, slot: int, size: int) -> _Bound:
        """The binding of a slot's chunks, which is kept, for one of `size` tokens, padding included."""
        if size > len(self._chunk.input_ids):
            length = min(max(size, 2 * len(self._chunk.input_ids)), self._capacity)
            self._chunk = _Arrays(1, length, self.vocab_size, logits=PAIR, takes_tokens=self._takes_tokens)
            self._chunks.clear()
        bound = self._chunks.get(slot)
        if bound is None:
            bound = self._chunks[slot] = self._bind_rows(slot, slot + 1)
        self._chunk.start[0] = size - PAIR
        if bound.size != size:
            self._chunk.bind(bound.binding, 1, size, PAIR)
            bound.size = size
        return bound

    def _bind_rows(self, start: int, stop: int) -> _Bound:
        """A new binding of some of the KV cache's rows, as past and as present."""
        binding = self._session.io_binding()
        for (past, present), buffer in zip(self._names, self._buffers, strict=True):
            view = buffer[start:stop]
            _bind(binding.bind_input, past, view, view.shape)
            _bind(binding.bind_output, present, view, view.shape)
        return _Bound(binding, stop - start)

    def _check_ids(self, ids: TokenIds) -> None:
        if int(ids.max()) >= self.vocab_size or int(ids.min()) < 0:
            token = next(token for token in ids.tolist() if not 0 <= token < self.vocab_size)
            raise PromptError(f"token id {token} is outside of the vocabulary of {self.vocab_size} tokens")

    def _check_room(self, past: int, count: int) -> None:
        if past + count > self.max_length:
            raise ContextLengthError(
                f"{count} more tokens after {past} cached positions exceed the maximum of {self.max_length}; "
                "shorten the prompt, or raise --max-length (at export, where the graph sets the limit)"
            )


@dataclass
class _Bound:
    """A binding of ONNX Runtime, and what is bound to it.

    Attributes:
        binding: The binding.
        rows: Number of rows.
        size: Number of tokens of a chunk, padding included; 0 before its arrays are bound.
        total: Length of the attention mask; 0 before it is bound.
    """

    binding: Any
    rows: int
    size: int = 0
    total: int = 0


class _Arrays:
    """The host arrays of runs of up to `rows` rows with `tokens` tokens, of which each run binds the beginning.

    Args:
        rows: Most rows of a run.
        tokens: Most tokens of a row.
        vocab_size: Size V of the vocabulary.
        logits: Most logits of a run.
        takes_tokens: Whether the graph takes the number of each row's tokens.

    Attributes:
        input_ids: Token ids, `[rows * tokens]` int64.
        position_ids: Position of each token in its row, `[rows * tokens]` int64.
        row_lengths: Positions of each row after the run, `[rows]` int32.
        row_tokens: Real tokens of each row, `[rows]` int32.
        start: Index of the first token whose logits are given, `[1]` int64.
        logits: Logits, `[logits, V]` float32.
    """

    def __init__(self, rows: int, tokens: int, vocab_size: int, *, logits: int, takes_tokens: bool) -> None:
        self.input_ids: TokenIds = np.zeros(rows * tokens, np.int64)
        self.position_ids: TokenIds = np.zeros(rows * tokens, np.int64)
        self.row_lengths: NDArray[np.int32] = np.zeros(rows, np.int32)
        self.row_tokens: NDArray[np.int32] = np.zeros(rows, np.int32)
        self.start: TokenIds = np.zeros(1, np.int64)
        self.logits: Logits = zeros((logits, vocab_size), FLOAT)
        self._rows = {ROW_LENGTHS: self.row_lengths} | ({ROW_TOKENS: self.row_tokens} if takes_tokens else {})

    def bind(self, binding: Any, rows: int, tokens: int, logits: int) -> None:
        """Bind the arrays for runs of this shape, with this many logits in all."""
        for name, array in ((INPUT_IDS, self.input_ids), (POSITION_IDS, self.position_ids)):
            _bind(binding.bind_input, name, array, (rows, tokens))
        for name, lengths in self._rows.items():
            _bind(binding.bind_input, name, lengths, (rows,))
        _bind(binding.bind_input, LOGITS_START, self.start, (1,))
        _bind(binding.bind_output, LOGITS, self.logits, (rows, logits // rows, self.logits.shape[1]))


def _even(count: int) -> int:
    """The number, or the next one where it is odd."""
    return count + count % 2


def _bind(bind: Any, name: str, array: NDArray[Any], shape: Sequence[int]) -> None:
    """Bind the beginning of an array, which must outlive the binding, as a tensor of this shape."""
    bind(name, "cpu", 0, array.dtype, shape, array.ctypes.data)
