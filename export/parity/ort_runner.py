"""The graph by onnxruntime on the CPU, its cache handed over by value or in one shared buffer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from minimind_edge.runtime.ort.session_options import onnxruntime_errors, summary
from minimind_edge.runtime.session.contract import cache_names
from minimind_edge.runtime.session.graph_facts import GraphFacts

from .case import PADDING, Chunk
from .runner import Presents, RunError, StepOutput

if TYPE_CHECKING:
    import onnxruntime

Float32 = NDArray[np.float32]

SPARE_SLOTS = 8
"""A shared buffer is longer than what a case fills: a graph that takes its length for the past's is found out."""


class GrowingRunner:
    """The past goes in by value and comes out longer: the contract of every target but `tensorrt`.

    Args:
        session: Of the graph, or of a copy that shows its experts too.
        facts: What the graph says of itself.
        expert_names: Values that hold the chosen experts, one a layer; empty where there are none.
        scales: What a step of each cached tensor stands for, see `cache_scales`; None where the cache is float.
    """

    name = "graph"
    last_token_only = False
    counts_positions = False

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        facts: GraphFacts,
        expert_names: Sequence[str] = (),
        scales: Sequence[Float32] | None = None,
    ) -> None:
        self._session = session
        self._facts = facts
        self._past_names = cache_names("past_key_values", facts.num_layers)
        self._present_names = cache_names("present", facts.num_layers)
        self._expert_names = list(expert_names)
        self._scales = scales
        self._past: list[NDArray[Any]] = []

    def reset(self, batch_size: int, slots: int) -> None:
        """Start from a past of length 0."""
        self._past = _empty_cache(self._facts, batch_size, 0)

    def step(self, chunk: Chunk) -> StepOutput:
        """Run a chunk and keep what it presents."""
        feeds = self._feeds(chunk) | dict(zip(self._past_names, self._past, strict=True))
        names = ["logits", *self._present_names, *self._expert_names]
        with run_errors():
            logits, *rest = self._session.run(names, feeds)
        self._past, experts = rest[: len(self._past)], rest[len(self._past) :]
        return StepOutput(logits, experts or None)

    def presents(self) -> Presents:
        """What the last chunk presented."""
        return _paired(_dequantized(self._past, self._scales))

    @staticmethod
    def _feeds(chunk: Chunk) -> dict[str, NDArray[np.integer]]:
        """All but the cache."""
        return _feeds(chunk)


class GrowingLastRunner(GrowingRunner):
    """The growing form of target `tensorrt`: int32, and the logits of each row's last real token alone."""

    last_token_only = True

    def step(self, chunk: Chunk) -> StepOutput:
        """See `GrowingRunner.step`."""
        output = super().step(chunk)
        return StepOutput(output.logits[:, 0], output.experts)

    @staticmethod
    def _feeds(chunk: Chunk) -> dict[str, NDArray[np.integer]]:
        real = chunk.layout != PADDING
        last = np.where(real.any(1), real.shape[1] - 1 - real[:, ::-1].argmax(1), 0)
        feeds = {**_feeds(chunk), "last_index": last}
        return {name: array.astype(np.int32) for name, array in feeds.items()}


class SharedBufferRunner:
    """Past and present are one preallocated buffer [B, H_kv, capacity, D]: the contract of `ort` on a device."""

    name = "graph, one buffer"
    last_token_only = False
    counts_positions = False

    def __init__(
        self, session: onnxruntime.InferenceSession, facts: GraphFacts, scales: Sequence[Float32] | None = None
    ) -> None:
        self._session = session
        self._scales = scales
        self._facts = facts
        self._past_names = cache_names("past_key_values", facts.num_layers)
        self._present_names = cache_names("present", facts.num_layers)
        self._length = 0
        self._buffers: list[onnxruntime.OrtValue] = []

    def reset(self, batch_size: int, slots: int) -> None:
        """Take fresh buffers with room for `slots` and some more."""
        import onnxruntime

        self._length = 0
        empty = _empty_cache(self._facts, batch_size, slots + SPARE_SLOTS)
        self._buffers = [onnxruntime.OrtValue.ortvalue_from_numpy(buffer) for buffer in empty]

    def step(self, chunk: Chunk) -> StepOutput:
        """Run a chunk; the graph writes behind what is cached."""
        binding = self._session.io_binding()
        for name, array in _feeds(chunk).items():
            binding.bind_cpu_input(name, np.ascontiguousarray(array))
        for past, present, buffer in zip(self._past_names, self._present_names, self._buffers, strict=True):
            binding.bind_ortvalue_input(past, buffer)
            binding.bind_ortvalue_output(present, buffer)
        binding.bind_output("logits")
        with run_errors():
            self._session.run_with_iobinding(binding)
        self._length = chunk.attention_mask.shape[1]
        return StepOutput(binding.get_outputs()[-1].numpy())

    def presents(self) -> Presents:
        """The buffers' slots in use."""
        presents = [buffer.numpy()[:, :, : self._length] for buffer in self._buffers]
        return _paired(_dequantized(presents, self._scales))


def _feeds(chunk: Chunk) -> dict[str, NDArray[np.integer]]:
    return {
        "input_ids": chunk.input_ids,
        "attention_mask": chunk.attention_mask,
        "position_ids": chunk.position_ids,
    }


def _paired(tensors: Sequence[NDArray[Any]]) -> Presents:
    """Key, value, key, value, ... as one (key, value) a layer."""
    return list(zip(tensors[::2], tensors[1::2], strict=True))


def _dequantized(tensors: Sequence[NDArray[Any]], scales: Sequence[Float32] | None) -> Sequence[NDArray[Any]]:
    """What the integers of cached tensors [B, H_kv, T, D] stand for; floats as they are."""
    if scales is None:
        return tensors
    return [tensor * scale for tensor, scale in zip(tensors, scales, strict=True)]


def _empty_cache(facts: GraphFacts, batch_size: int, slots: int) -> list[NDArray[Any]]:
    """Zeros for every cached tensor, each [B, H_kv, slots, D], key before value."""
    shape = (batch_size, facts.num_key_value_heads, slots, facts.head_dim)
    return [np.zeros(shape, facts.kv_dtype) for _ in range(2 * facts.num_layers)]


@contextmanager
def run_errors() -> Iterator[None]:
    """Turn what onnxruntime raises while it runs a graph into a `RunError`."""
    import onnxruntime

    try:
        yield
    except onnxruntime_errors(onnxruntime) as error:
        raise RunError(f"onnxruntime: {summary(error)}") from error
