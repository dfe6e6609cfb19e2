"""Where the keys and values of past positions live: buffers that an IOBinding reads from and writes into.

Both layouts hold H_kv heads, never expanded to the query heads, and neither copies the cache in a decode step:

- `GrowingCache`, for graphs that return past and new positions joined: two sets of buffers that take turns, as the
  graph's own concatenation copies from one to the other.
- `SharedCache`, for graphs that write new positions in place: one buffer is bound as past and as present.

Buffers are ONNX Runtime's values, so that they may lie in a GPU's memory as well; only growing a shared buffer and
rolling a growing one back go through the host's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import MissingError
from ..session.contract import cache_names
from ..session.graph_facts import GraphFacts
from ..session.model import grown_capacity


class DeviceMemory:
    """Makes ONNX Runtime's values on a device.

    Args:
        onnxruntime: The module.
        device: `cpu` or `cuda`.
        fresh: The value of a new buffer's numbers.
    """

    def __init__(self, onnxruntime: ModuleType, device: str, fresh: float = 0.0) -> None:
        self.device = device
        self._fresh = fresh
        self._ort_value = onnxruntime.OrtValue

    def put(self, array: NDArray[Any]) -> Any:
        """A value that holds an array; on the CPU it is the array's own memory."""
        return self._ort_value.ortvalue_from_numpy(array, self.device, 0)

    def buffer(self, shape: Sequence[int], dtype: np.dtype[Any]) -> NDArray[Any]:
        """A new buffer in the host's memory.

        Raises:
            MissingError: There is no memory for it.
        """
        buffer = zeros(shape, dtype)
        if self._fresh:
            buffer[...] = self._fresh
        return buffer


class SharedCache:
    """One buffer `[B, H_kv, capacity, D]` for each cached tensor, past and present at once.

    Rolling back costs nothing: the graph takes the length from the attention mask.

    Args:
        facts: Of the graph.
        binding: The session's IOBinding.
        memory: Where the buffers are made.
        batch_size: B.
        limit: Most slots there can ever be.

    Attributes:
        capacity: Slots that are bound: a run within them needs no other binding.
    """

    def __init__(self, facts: GraphFacts, binding: Any, memory: DeviceMemory, batch_size: int, limit: int) -> None:
        self._facts = facts
        self._names = bound_names(facts)
        self._binding = binding
        self._memory = memory
        self._batch_size = batch_size
        self._limit = limit
        self.capacity = 0
        self._buffers: list[Any] = []

    @property
    def nbytes(self) -> int:
        """Bytes of the buffers that there are now."""
        return self._facts.kv_bytes_per_slot * self._batch_size * self.capacity

    def bind(self, past: int, total: int) -> None:
        """Have the next run read slots 0 to `past - 1` and leave slots 0 to `total - 1`.

        Args:
            past: Slots to keep, at most those of the last commit: fewer roll the cache back.
            total: Slots after the run, at most the cache's limit.

        Raises:
            MissingError: There is no memory for that many.
        """
        if total > self.capacity:
            self._grow(past, grown_capacity(total, self._limit))

    def read(self, slots: int) -> list[NDArray[Any]]:
        """A copy of the first slots of each key and value in turn, `[B, H_kv, slots, D]`; they are in use."""
        return [buffer.numpy()[:, :, :slots].copy() for buffer in self._buffers]

    def _grow(self, past: int, capacity: int) -> None:
        shape = (self._batch_size, self._facts.num_key_value_heads, capacity, self._facts.head_dim)
        arrays = [self._memory.buffer(shape, self._facts.kv_dtype) for _ in self._names]
        for array, buffer in zip(arrays, self._buffers, strict=False):  # there are none the first time
            array[:, :, :past] = buffer.numpy()[:, :, :past]
        self._buffers = [self._memory.put(array) for array in arrays]
        for (past_name, present_name), buffer in zip(self._names, self._buffers, strict=True):
            self._binding.bind_ortvalue_input(past_name, buffer)
            self._binding.bind_ortvalue_output(present_name, buffer)
        self.capacity = capacity


class GrowingCache:
    """Two flat buffers for each cached tensor; each run reads `[B, H_kv, P, D]` from one and fills the other.

    Slots are not the outermost dimension, so that another length is another layout: rolling back copies what is kept
    into place, once, at the next run.

    Args:
        facts: Of the graph.
        binding: The session's IOBinding.
        memory: Where the buffers are made.
        batch_size: B.
        limit: Most slots there can ever be.
    """

    def __init__(self, facts: GraphFacts, binding: Any, memory: DeviceMemory, batch_size: int, limit: int) -> None:
        self._facts = facts
        self._names = bound_names(facts)
        self._binding = binding
        self._memory = memory
        self._batch_size = batch_size
        self._limit = limit
        self._stored = 0
        self._source = _Buffers()
        self._target = _Buffers()

    @property
    def nbytes(self) -> int:
        """See `SharedCache.nbytes`."""
        slots = self._source.capacity + self._target.capacity
        return self._facts.kv_bytes_per_slot * self._batch_size * slots

    def bind(self, past: int, total: int) -> None:
        """See `SharedCache.bind`."""
        if past != self._stored:
            self._keep(past)
        self._reserve(self._source, past)
        self._reserve(self._target, total)
        device, dtype = self._memory.device, self._facts.kv_dtype
        past_shape, total_shape = self._shape(past), self._shape(total)
        bind_input, bind_output = self._binding.bind_input, self._binding.bind_output
        for (past_name, present_name), source, target in zip(
            self._names, self._source.pointers, self._target.pointers, strict=True
        ):
            bind_input(past_name, device, 0, dtype, past_shape, source)
            bind_output(present_name, device, 0, dtype, total_shape, target)

    def commit(self, total: int) -> None:
        """Note that the run has left slots 0 to `total - 1`: what was written is what the next run reads."""
        self._source, self._target = self._target, self._source
        self._stored = total

    def read(self, slots: int) -> list[NDArray[Any]]:
        """See `SharedCache.read`."""
        stored = self._shape(self._stored)
        flat = (value.numpy()[: math.prod(stored)] for value in self._source.values)
        return [each.reshape(stored)[:, :, :slots].copy() for each in flat]

    def _keep(self, length: int) -> None:
        """Lay the first `length` of the stored slots out as a cache of that length, in the other buffers."""
        if length:
            self._reserve(self._target, length)
            stored = self._shape(self._stored)
            for index, source in enumerate(self._source.values):
                contents = source.numpy()[: math.prod(stored)].reshape(stored)[:, :, :length]
                self._target.write(index, contents, self._memory)
            self._source, self._target = self._target, self._source
        self._stored = length

    def _reserve(self, buffers: _Buffers, length: int) -> None:
        """Make room for `length` slots; the buffers of a run's past hold it already, but for an empty one."""
        if not buffers.values or length > buffers.capacity:
            capacity = grown_capacity(length, self._limit)
            shape = (math.prod(self._shape(capacity)),)
            arrays = [self._memory.buffer(shape, self._facts.kv_dtype) for _ in self._names]
            buffers.take(capacity, [self._memory.put(array) for array in arrays])

    def _shape(self, length: int) -> tuple[int, int, int, int]:
        return self._batch_size, self._facts.num_key_value_heads, length, self._facts.head_dim


KVCache: TypeAlias = SharedCache | GrowingCache


class _Buffers:
    """Flat values, one for each cached tensor, where they lie, and how many slots each has room for."""

    def __init__(self) -> None:
        self.capacity = 0
        self.values: list[Any] = []
        self.pointers: list[int] = []

    def take(self, capacity: int, values: list[Any]) -> None:
        """Let go of what is there for new values."""
        self.capacity = capacity
        self.values = values
        self.pointers = [value.data_ptr() for value in values]

    def write(self, index: int, contents: NDArray[Any], memory: DeviceMemory) -> None:
        """Begin one of the values with an array's elements."""
        array = self.values[index].numpy()  # on the CPU the value's own memory, elsewhere a copy of it
        array[: contents.size].reshape(contents.shape)[:] = contents
        if memory.device != "cpu":
            self.values[index] = memory.put(array)
            self.pointers[index] = self.values[index].data_ptr()


def bound_names(facts: GraphFacts) -> list[tuple[str, str]]:
    """Input and output of each cached tensor."""
    layers = facts.num_layers
    return list(zip(cache_names("past_key_values", layers), cache_names("present", layers), strict=True))


def zeros(shape: Sequence[int], dtype: np.dtype[Any]) -> NDArray[Any]:
    """A buffer in the host's memory; zero, because a kernel may multiply what it masks, and untouched pages are free.

    Raises:
        MissingError: There is no memory for it.
    """
    try:
        return np.zeros(shape, dtype)
    except (MemoryError, ValueError) as error:  # ValueError: beyond any memory
        size = math.prod(shape) * dtype.itemsize >> 20
        raise MissingError(
            f"no memory for a buffer of {size} MiB; lower the batch size or the maximum length"
        ) from error
