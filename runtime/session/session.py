"""The session: token ids in, next-token logits out; the decode loop's only view of a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ContextLengthError, PromptError, UsageError
from .contract import ROWS_CACHE, GraphFacts
from .layout import CompactLayout, Layout, PaddedLayout, Prompt, RowLayout
from .model import Logits, Model, TokenIds

LAYOUTS: dict[str, type[Layout]] = {"static": CompactLayout, ROWS_CACHE: RowLayout}
"""The layout of a batch for each form of the KV cache; `PaddedLayout` for the others."""


class Session:
    """A causal language model with a KV cache, run one chunk or one token at a time; made by `load_session`.

    Positions are cache slots, the same for every row of a batch: a chunk of S tokens takes S slots in each row, padding
    included. The attention mask tells once, when a chunk is prefilled, where its padding is; position ids count real
    tokens only. A call that fails leaves the session as it was.

    An array of logits is a view of the session's memory, valid until the next call.

    Args:
        model: The model that runs the chunks.
        max_length: Most cache slots, where the model's own limit is not lower; None for that limit.

    Attributes:
        facts: The sizes and types of the model's inputs and outputs.
        device: `cpu` or `cuda`.
        max_length: Most cache slots, padding included.
        vocab_size: Size V of the vocabulary; token ids are 0 to `vocab_size - 1`.
        batch_size: Number of rows B.
        length: Cache slots in use, padding included.

    Raises:
        UsageError: `max_length` is less than 1.
    """

    def __init__(self, model: Model, *, max_length: int | None = None) -> None:
        check_positive("max_length", max_length)
        self.facts: GraphFacts = model.facts
        self.device = model.device
        self.max_length = model.max_length if max_length is None else min(model.max_length, max_length)
        self.vocab_size = model.facts.vocab_size
        self.batch_size = 0
        self.length = 0
        self._model = model
        self._experts: list[NDArray[np.int64]] = []
        self.reset()

    @property
    def gives_all_logits(self) -> bool:
        """Whether the model gives the logits of every token of a chunk, which `forward` needs."""
        return self.facts.gives_all_logits

    @property
    def run_s(self) -> float:
        """The seconds spent so far inside the model's own run."""
        return self._model.run_s

    @property
    def kv_cache_bytes(self) -> int:
        """The bytes of the KV cache's buffers."""
        return self._model.kv_cache_bytes

    def reset(self, batch_size: int = 1) -> None:
        """Empty the cache, and take `batch_size` rows from now on.

        Raises:
            MissingError: There is not enough memory for the rows.
            UsageError: `batch_size` is less than 1, or the model runs fewer rows at once.
        """
        check_positive("batch_size", batch_size)
        self._model.reserve(batch_size, self.max_length)
        if batch_size != self.batch_size:
            layout = LAYOUTS.get(self.facts.cache, PaddedLayout)
            self._layout: Layout = layout(self._model, batch_size, self.max_length)
            self.batch_size = batch_size
        self._layout.truncate(0)
        self.length = 0

    def truncate(self, length: int) -> None:
        """Drop all slots from `length` on; any cost is paid by the next call.

        Args:
            length: Slots to keep, 0 to the current length.

        Raises:
            UsageError: `length` is out of range.
        """
        if not 0 <= length <= self.length:
            raise UsageError(f"cannot keep {length} positions of a session that holds {self.length}")
        self._layout.truncate(length)
        self.length = length

    def restore(self, cache: Sequence[NDArray[Any]]) -> None:
        """Replace the cached slots by others without padding, which `cache` gave earlier.

        Args:
            cache: Key and value of each layer, `[B, H_kv, L, D]`; L becomes the length.

        Raises:
            MissingError: There is not enough memory.
            UsageError: It does not fit this session.
        """
        facts = self.facts
        length = cache[0].shape[2] if cache and cache[0].ndim == 4 else 0
        shape = (self.batch_size, facts.num_key_value_heads, length, facts.head_dim)
        if len(cache) != 2 * facts.num_layers or any(each.shape != shape for each in cache):
            raise UsageError(f"cannot restore a cache that is not {2 * facts.num_layers} arrays of shape {shape}")
        if length > self.max_length:
            raise UsageError(f"cannot restore {length} positions in a session of at most {self.max_length}")
        self._model.restore(cache, length)
        self._layout.restore(length)
        self.length = length

    def prefill(self, input_ids: TokenIds, attention_mask: TokenIds | None = None) -> Logits:
        """Run prompt tokens after the cached ones, in chunks.

        Args:
            input_ids: Token ids, `[B, S]` int64, S at least 1; B is the session's batch size, or any if the cache is
                empty.
            attention_mask: Mask of these tokens, `[B, S]` int64 of 0 and 1; None where none of them is padding.

        Returns:
            The logits of each row's last real token, or of its last token in a row without one, `[B, V]` float32.

        Raises:
            PromptError: A shape, a mask value or a token id is out of range.
            ContextLengthError: `length + S` is past `max_length`; nothing has been run.
        """
        prompt = self._arrange(input_ids, attention_mask)
        result: Logits | None = None
        experts = []
        for part in prompt.parts(self._model.chunk):
            ends_here = (part.start <= prompt.last) & (prompt.last < part.stop)
            last = prompt.last - part.start
            first = int(last[ends_here].min()) if ends_here.any() else part.stop - part.start - 1
            arrays = self._layout.fill(prompt, part, first)
            self._model.run(arrays)
            experts.append(self._model.experts())
            logits = self._layout.last_logits(arrays, last)
            if result is None:
                result = logits if part.stop == prompt.ids.shape[1] else logits.copy()
            else:
                result[ends_here] = logits[ends_here]
        assert result is not None  # there is at least one token
        self._append(prompt, experts)
        return result

    def forward(
        self, input_ids: TokenIds, attention_mask: TokenIds | None = None, position_ids: TokenIds | None = None
    ) -> Logits:
        """Run tokens after the cached ones in a single run, and return the logits of each of them.

        Args:
            input_ids: Token ids, `[B, S]` int64, S at least 1.
            attention_mask: Mask of these tokens, `[B, S]` int64 of 0 and 1; None where none of them is padding.
            position_ids: Position ids, `[B, S]` int64; None counts each row's real tokens.

        Returns:
            Logits, `[B, S, V]` float32, which differ from those of single steps by rounding.

        Raises:
            PromptError: A shape, a mask value or a token id is out of range.
            ContextLengthError: `length + S` is past `max_length`; nothing has been run.
            UsageError: `gives_all_logits` is false.
        """
        if not self.gives_all_logits:
            raise UsageError("a graph of target tensorrt gives one row of logits: it cannot give those of every token")
        prompt = self._arrange(input_ids, attention_mask, position_ids)
        arrays = self._layout.fill(prompt, slice(0, prompt.ids.shape[1]), 0)
        self._model.run(arrays)
        logits = self._layout.all_logits(prompt, arrays)
        self._append(prompt, [self._model.experts()])
        return logits

    def decode(self, tokens: TokenIds) -> Logits:
        """Append one real token to every row.

        Args:
            tokens: Token ids, `[B]` int64.

        Returns:
            Logits, `[B, V]` float32.

        Raises:
            PromptError: The shape or a token id is out of range.
            ContextLengthError: `length` is `max_length` already; nothing has been run.
        """
        length, ids = self.length, tokens.tolist()
        if tokens.ndim != 1 or len(ids) != self.batch_size or tokens.dtype.kind not in "iu":
            raise PromptError(f"expected {self.batch_size} token ids, found {tokens.dtype} {tokens.shape}")
        self._check_ids(min(ids), max(ids))
        if length >= self.max_length:
            self._check_room(1)
        arrays = self._layout.step(ids, length)
        self._model.run(arrays)
        self._layout.append_step(length)
        self.length = length + 1
        if self._experts:
            self._experts = self._model.experts()
        return arrays.logits[:, 0]

    def cache(self) -> list[NDArray[Any]]:
        """A copy of the KV cache: key and value of each layer, `[B, H_kv, length, D]`."""
        return self._layout.cache(self.length)

    def experts(self) -> list[NDArray[np.int64]]:
        """The experts of the last call's tokens, `[B, S, k]` int64 for each layer; empty if the graph lacks them."""
        return self._experts

    def _arrange(
        self, input_ids: TokenIds, attention_mask: TokenIds | None, position_ids: TokenIds | None = None
    ) -> Prompt:
        """Check a prompt, and arrange it after the cached tokens."""
        if input_ids.ndim != 2 or not input_ids.size or input_ids.dtype.kind not in "iu":
            raise PromptError(
                f"expected token ids [B, S] with at least one token, found {input_ids.dtype} {input_ids.shape}"
            )
        self._check_ids(int(input_ids.min()), int(input_ids.max()))
        mask = _checked_mask(attention_mask, input_ids.shape)
        if position_ids is not None and position_ids.shape != input_ids.shape:
            raise PromptError(f"expected position ids of shape {input_ids.shape}, found {position_ids.shape}")
        rows, width = input_ids.shape
        if self.length and rows != self.batch_size:
            raise PromptError(f"expected a chunk for {self.batch_size} rows, found {rows}; reset first")
        self._check_room(width)
        if rows != self.batch_size:
            self.reset(rows)
        return self._layout.arrange(input_ids, mask, self.length, position_ids)

    def _append(self, prompt: Prompt, experts: list[list[NDArray[np.int64]]]) -> None:
        """Record that a prompt has run."""
        self._layout.append(self.length, prompt.mask)
        self.length += prompt.mask.shape[1]
        self._experts = []
        if experts[0]:
            layers = [np.concatenate(layer, axis=1) for layer in zip(*experts, strict=True)]
            self._experts = self._layout.experts(prompt, layers)

    def _check_ids(self, least: int, greatest: int) -> None:
        if least < 0 or greatest >= self.vocab_size:
            token = least if least < 0 else greatest
            raise PromptError(f"token id {token} is outside of the vocabulary of {self.vocab_size} tokens")

    def _check_room(self, count: int) -> None:
        if self.length + count > self.max_length:
            raise ContextLengthError(
                f"{count} more tokens after {self.length} cached positions exceed the maximum of {self.max_length}; "
                f"shorten the prompt, or {self._model.remedy}"
            )


def check_positive(name: str, value: int | None) -> None:
    """Check an optional number.

    Raises:
        UsageError: The number is less than 1.
    """
    if value is not None and value < 1:
        raise UsageError(f"{name} must be at least 1, found {value}")


def _checked_mask(attention_mask: TokenIds | None, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """The attention mask as `[B, S]` bool, True for real tokens."""
    if attention_mask is None:
        return np.ones(shape, np.bool_)
    if attention_mask.shape != shape or not np.isin(attention_mask, (0, 1)).all():
        raise PromptError(f"expected an attention mask of 0 and 1 with shape {shape}")
    return attention_mask.astype(np.bool_)
