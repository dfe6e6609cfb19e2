"""Graphs of target `tensorrt` by onnxruntime: rows moved to the left, the cache written in place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from minimind_edge.runtime.session.contract import cache_names
from minimind_edge.runtime.session.graph_facts import GraphFacts

from .case import PADDING, Chunk, Integers
from .ort_runner import run_errors
from .runner import Presents, StepOutput

if TYPE_CHECKING:
    import onnxruntime

STALE = 8.0
"""In every slot of a fresh cache: what a roll-back leaves behind must count nothing."""


class StaticRunner:
    """One buffer for past and present, without a slot to spare; stale numbers in all that has not been written.

    Args:
        session: Of the graph, or of a copy that shows its experts too.
        facts: What the graph says of itself.
        expert_names: Values that hold the chosen experts, one a layer; empty where there are none.
    """

    name = "graph, in place"
    last_token_only = True
    counts_positions = True

    def __init__(
        self, session: onnxruntime.InferenceSession, facts: GraphFacts, expert_names: Sequence[str] = ()
    ) -> None:
        self._session = session
        self._facts = facts
        self._expert_names = list(expert_names)
        self._names = list(
            zip(cache_names("past_key_values", facts.num_layers), cache_names("present", facts.num_layers), strict=True)
        )
        self._buffers: list[onnxruntime.OrtValue] = []
        self._real: NDArray[np.bool_] = np.zeros((0, 0), np.bool_)

    def reset(self, batch_size: int, slots: int) -> None:
        """Take a cache that the case fills to the end."""
        import onnxruntime

        facts = self._facts
        shape = (batch_size, facts.num_key_value_heads, slots, facts.head_dim)
        stale = [np.full(shape, STALE, facts.kv_dtype) for _ in self._names]
        self._buffers = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in stale]
        self._real = np.zeros((batch_size, 0), np.bool_)

    def step(self, chunk: Chunk) -> StepOutput:
        """Run a chunk; the logits are those of each row's last real token."""
        real = chunk.layout != PADDING
        order = np.argsort(~real, axis=1, kind="stable")
        feeds = {
            "input_ids": np.take_along_axis(chunk.input_ids, order, axis=1),
            "write_indices": self._real.sum(1),
            "last_index": np.maximum(real.sum(1), 1) - 1,
        }
        binding = self._session.io_binding()
        for name, array in feeds.items():
            binding.bind_cpu_input(name, np.ascontiguousarray(array, np.int32))
        for (past, present), buffer in zip(self._names, self._buffers, strict=True):
            binding.bind_ortvalue_input(past, buffer)
            binding.bind_ortvalue_output(present, buffer)
        for name in ("logits", *self._expert_names):
            binding.bind_output(name)
        with run_errors():
            self._session.run_with_iobinding(binding)
        self._real = np.concatenate([self._real, real], axis=1)
        logits, *experts = [value.numpy() for value in binding.get_outputs()[len(self._buffers) :]]
        return StepOutput(logits[:, 0], [_moved_back(one, order) for one in experts] or None)

    def presents(self) -> Presents:
        """The cache, each row's tokens in the slots that the case has them in."""
        shape = (self._real.shape[0], self._facts.num_key_value_heads, self._real.shape[1], self._facts.head_dim)
        tensors = []
        for buffer in self._buffers:
            compact, spread = buffer.numpy(), np.zeros(shape, self._facts.kv_dtype)
            for row, real in enumerate(self._real):
                spread[row][:, real] = compact[row, :, : np.count_nonzero(real)]
            tensors.append(spread)
        return list(zip(tensors[::2], tensors[1::2], strict=True))


def _moved_back(chosen: NDArray[np.integer], order: Integers) -> Integers:
    """Choices of experts of moved tokens, [B, S, k], where the tokens came from."""
    result = np.zeros((*order.shape, chosen.shape[-1]), np.int64)
    np.put_along_axis(result, order[..., None], chosen.reshape(result.shape), axis=1)
    return result
