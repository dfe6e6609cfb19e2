"""The KV cache in ONNX Runtime: buffers that an IOBinding reads past keys and values from and writes new ones into.

Both classes hold H_kv heads, never expanded to the query heads, and add no copy of the cache to a decode step:

- `GrowingCache`, for graphs that return past and new positions joined: two sets of buffers alternate, as the graph's
  own concatenation copies from one to the other.
- `SharedCache`, for graphs that write new positions in place: one buffer is bound as past and as present.

Buffers are ONNX Runtime's values, so that they can be in a GPU's memory; only growing a shared buffer and rolling a
growing one back pass through host memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import MissingError
from ..session.contract import GraphFacts, cache_names
from ..session.model import grown_capacity

ALIGNMENT = 64
"""The alignment of buffers in bytes: a cache line, and the widest vector register."""


class DeviceMemory:
    """Creates ONNX Runtime's values on a device.

    Args:
        onnxruntime: The imported module.
        device: `cpu` or `cuda`.
        fresh: Initial value of a new buffer's numbers.
    """

    def __init__(self, onnxruntime: ModuleType, device: str, fresh: float = 0.0) -> None:
        self.device = device
        self._fresh = fresh
        self._ort_value = onnxruntime.OrtValue

    def put(self, array: NDArray[Any]) -> Any:
        """A value with the content of an array; on the CPU it shares the array's memory."""
        return self._ort_value.ortvalue_from_numpy(array, self.device, 0)

    def buffer(self, shape: Sequence[int], dtype: np.dtype[Any]) -> NDArray[Any]:
        """A new buffer in host memory.

        Raises:
            MissingError: There is not enough memory.
        """
        buffer = zeros(shape, dtype)
        if self._fresh:
            buffer[...] = self._fresh
        return buffer


class SharedCache:
    """A KV cache with one buffer `[B, H_kv, capacity, D]` for past and present of each cached tensor.

    Rolling back costs nothing: the graph takes the length from the attention mask.

    Args:
        facts: Sizes and types of the graph.
        binding: IOBinding of ONNX Runtime's session.
        memory: Memory in which the buffers are created.
        batch_size: Number of rows B.
        limit: Most cache slots.

    Attributes:
        capacity: Number of slots that are bound; runs within them need no new binding.
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
        """The bytes of the current buffers."""
        return self._facts.kv_bytes_per_slot * self._batch_size * self.capacity

    def bind(self, past: int, total: int) -> None:
        """Bind the next run, which reads slots 0 to `past - 1` and writes up to slot `total - 1`.

        Args:
            past: Number of slots to keep, at most those in use; fewer roll the cache back.
            total: Number of slots after the run, at most the cache's limit.

        Raises:
            MissingError: There is not enough memory.
        """
        if total > self.capacity:
            self._grow(past, grown_capacity(total, self._limit))

    def bind_row(self, row: int) -> None:
        """Bind one row as a batch of its own, until `bind_rows`."""
        facts = self._facts
        shape = (1, facts.num_key_value_heads, self.capacity, facts.head_dim)
        start = row * math.prod(shape) * facts.kv_dtype.itemsize
        for (past_name, present_name), buffer in zip(self._names, self._buffers, strict=True):
            view = (self._memory.device, 0, facts.kv_dtype, shape, buffer.data_ptr() + start)
            self._binding.bind_input(past_name, *view)
            self._binding.bind_output(present_name, *view)

    def bind_rows(self) -> None:
        """Bind all rows."""
        for (past_name, present_name), buffer in zip(self._names, self._buffers, strict=True):
            self._binding.bind_ortvalue_input(past_name, buffer)
            self._binding.bind_ortvalue_output(present_name, buffer)

    def read(self, slots: int) -> list[NDArray[Any]]:
        """A copy of the first `slots`, which are in use: key and value of each layer, `[B, H_kv, slots, D]`."""
        return [buffer.numpy()[:, :, :slots].copy() for buffer in self._buffers]

    def write(self, cache: Sequence[NDArray[Any]], length: int) -> None:
        """Replace the first `length` slots by what `read` gave.

        Raises:
            MissingError: There is not enough memory.
        """
        self.bind(0, length)
        arrays = [buffer.numpy() for buffer in self._buffers]  # on the CPU views of the values' memory
        for array, contents in zip(arrays, cache, strict=True):
            array[:, :, :length] = contents
        if self._memory.device != "cpu":
            self._take(arrays)

    def _grow(self, past: int, capacity: int) -> None:
        shape = (self._batch_size, self._facts.num_key_value_heads, capacity, self._facts.head_dim)
        # All in one array: for arrays of 4 MiB and more, numpy asks the system for huge pages.
        arrays = list(self._memory.buffer((len(self._names), *shape), self._facts.kv_dtype))
        for array, buffer in zip(arrays, self._buffers, strict=False):  # no buffers the first time
            array[:, :, :past] = buffer.numpy()[:, :, :past]
        self._take(arrays)
        self.capacity = capacity

    def _take(self, arrays: Sequence[NDArray[Any]]) -> None:
        """Bind buffers with the content of these arrays."""
        self._buffers = [self._memory.put(array) for array in arrays]
        self.bind_rows()


class GrowingCache:
    """A KV cache with two flat buffers for each cached tensor: a run reads the past from one and fills the other.

    Slots are not the outermost dimension, so another length has other strides: after a roll-back, the next run first
    copies the kept slots into place.

    Args:
        facts: Sizes and types of the graph.
        binding: IOBinding of ONNX Runtime's session.
        memory: Memory in which the buffers are created.
        batch_size: Number of rows B.
        limit: Most cache slots.
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
        """The bytes of the current buffers."""
        slots = self._source.capacity + self._target.capacity
        return self._facts.kv_bytes_per_slot * self._batch_size * slots

    def bind(self, past: int, total: int) -> None:
        """Bind the next run, with the arguments and errors of `SharedCache.bind`."""
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
        """Record that a run has written slots 0 to `total - 1`, which the next run reads."""
        self._source, self._target = self._target, self._source
        self._stored = total

    def read(self, slots: int) -> list[NDArray[Any]]:
        """A copy of the first `slots`, which are in use: key and value of each layer, `[B, H_kv, slots, D]`."""
        stored = self._shape(self._stored)
        flat = (value.numpy()[: math.prod(stored)] for value in self._source.values)
        return [each.reshape(stored)[:, :, :slots].copy() for each in flat]

    def write(self, cache: Sequence[NDArray[Any]], length: int) -> None:
        """Replace the first `length` slots by what `read` gave, with the errors of `SharedCache.write`."""
        self._reserve(self._source, length)
        for index, contents in enumerate(cache):
            self._source.write(index, contents, self._memory)
        self._stored = length

    def _keep(self, length: int) -> None:
        """Copy the first `length` of the stored slots to the other buffers, as a cache of that length."""
        if length:
            self._reserve(self._target, length)
            stored = self._shape(self._stored)
            for index, source in enumerate(self._source.values):
                contents = source.numpy()[: math.prod(stored)].reshape(stored)[:, :, :length]
                self._target.write(index, contents, self._memory)
            self._source, self._target = self._target, self._source
        self._stored = length

    def _reserve(self, buffers: _Buffers, length: int) -> None:
        """Make room for `length` slots; a past that is not empty has it already."""
        if not buffers.values or length > buffers.capacity:
            capacity = grown_capacity(length, self._limit)
            shape = (math.prod(self._shape(capacity)),)
            arrays = [self._memory.buffer(shape, self._facts.kv_dtype) for _ in self._names]
            buffers.take(capacity, [self._memory.put(array) for array in arrays])

    def _shape(self, length: int) -> tuple[int, int, int, int]:
        return self._batch_size, self._facts.num_key_value_heads, length, self._facts.head_dim


KVCache: TypeAlias = SharedCache | GrowingCache


class _Buffers:
    """One flat value for each cached tensor, its address, and the number of slots that it has room for."""

    def __init__(self) -> None:
        self.capacity = 0
        self.values: list[Any] = []
        self.pointers: list[int] = []

    def take(self, capacity: int, values: list[Any]) -> None:
        """Replace the values by new ones."""
        self.capacity = capacity
        self.values = values
        self.pointers = [value.data_ptr() for value in values]

    def write(self, index: int, contents: NDArray[Any], memory: DeviceMemory) -> None:
        """Copy an array's elements to the beginning of a value."""
        array = self.values[index].numpy()  # on the CPU a view of the value's memory, elsewhere a copy
        array[: contents.size].reshape(contents.shape)[:] = contents
        if memory.device != "cpu":
            self.values[index] = memory.put(array)
            self.pointers[index] = self.values[index].data_ptr()


def bound_names(facts: GraphFacts) -> list[tuple[str, str]]:
    """The names of the input and the output of each cached tensor."""
    layers = facts.num_layers
    return list(zip(cache_names("past_key_values", layers), cache_names("present", layers), strict=True))


def zeros(shape: Sequence[int], dtype: np.dtype[Any]) -> NDArray[Any]:
    """A buffer of zeros in host memory, at a multiple of `ALIGNMENT`.

    Kernels may multiply masked slots by 0, and untouched pages cost nothing.

    Raises:
        MissingError: There is not enough memory.
    """
    size = math.prod(shape) * dtype.itemsize
    try:
        raw = np.zeros(size + ALIGNMENT, np.uint8)
    except (MemoryError, ValueError) as error:  # ValueError: beyond any memory
        raise MissingError(
            f"no memory for a buffer of {size >> 20} MiB; lower the batch size or the maximum length"
        ) from error
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size].view(dtype).reshape(shape)
