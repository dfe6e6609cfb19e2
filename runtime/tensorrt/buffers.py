"""All that a plan reads and writes: arrays on the host, and their copies and the KV cache in the device's memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..session.graph_facts import cache_names
from ..session.model import RunArrays
from .interfaces import TOKENS, Address, Driver
from .plan import Plan

Shape = tuple[int, ...]


class DeviceBuffers:
    """Buffers with room for the plan's largest run; every address stays, as a recorded run needs it.

    Past and present of the cache have one address: the plan writes it in place.

    Args:
        driver: Of the device.
        plan: Gives the sizes.
    """

    def __init__(self, driver: Driver, plan: Plan) -> None:
        rows, tokens = plan.max_batch, plan.max_batch * plan.max_chunk
        self._driver = driver
        self._plan = plan
        sizes = {"input_ids": tokens, "write_indices": rows, "last_index": rows}
        self._hosts = {name: driver.host_array((size,), TOKENS) for name, size in sizes.items()}
        self._inputs = {name: driver.allocate(host.nbytes) for name, host in self._hosts.items()}
        self._logits = driver.host_array((rows, 1, plan.vocab_size), np.float32)
        self._logits_address = driver.allocate(self._logits.nbytes)
        self._experts = [driver.allocate(tokens * each.per_token * each.dtype.itemsize) for each in plan.experts]
        self._cache: list[Address] = []
        self._rows = 0

    @property
    def cache_bytes(self) -> int:
        """Bytes of the cache."""
        return len(self._cache) * self._plan.cache.tensor_bytes(self._rows) if self._rows else 0

    def reserve(self, batch_size: int) -> bool:
        """Take a cache for so many rows, if the one that is there has fewer.

        Returns:
            Whether addresses have changed.

        Raises:
            MissingError: The device has no room.
        """
        if batch_size <= self._rows:
            return False
        self._rows = 0
        while self._cache:
            self._driver.free(self._cache.pop())
        for _ in range(2 * self._plan.cache.num_layers):
            # Zeros matter: a slot that is hidden counts nothing times what it holds, and NaN times nothing is NaN.
            self._cache.append(self._driver.allocate(self._plan.cache.tensor_bytes(batch_size)))
        self._rows = batch_size
        return True

    def arrays(self, batch_size: int, size: int) -> RunArrays:
        """The host's arrays for a chunk `[B, S]`: views of the same memory at every call."""
        shapes = {"input_ids": (batch_size, size), "write_indices": (batch_size,), "last_index": (batch_size,)}
        inputs: dict[str, NDArray[Any]] = {
            name: self._hosts[name][: int(np.prod(shape))].reshape(shape) for name, shape in shapes.items()
        }
        return RunArrays(inputs, self._logits[:batch_size])

    def addresses(self) -> Iterator[tuple[str, Address]]:
        """Where each input and output of the plan lies."""
        yield from self._inputs.items()
        yield "logits", self._logits_address
        for each, address in zip(self._plan.experts, self._experts, strict=True):
            yield each.name, address
        for prefix in ("past_key_values", "present"):
            yield from zip(cache_names(prefix, self._plan.cache.num_layers), self._cache, strict=True)

    def shapes(self, arrays: RunArrays) -> Iterator[tuple[str, Shape]]:
        """Shape of each input for a run."""
        for name, values in arrays.inputs.items():
            yield name, values.shape
        past = self._plan.cache.tensor_shape(len(arrays.logits))
        for name in cache_names("past_key_values", self._plan.cache.num_layers):
            yield name, past

    def send(self, arrays: RunArrays) -> None:
        """Copy the inputs of a run to the device."""
        for name, values in arrays.inputs.items():
            self._driver.to_device(self._inputs[name], values)

    def fetch(self, arrays: RunArrays) -> None:
        """Copy the logits of a run to the host."""
        self._driver.to_host(arrays.logits, self._logits_address)

    def read_experts(self, arrays: RunArrays) -> list[NDArray[np.int64]]:
        """A copy of the experts that a run chose in each layer, `[B, S, k]`; empty for a dense model."""
        chunk = arrays.inputs["input_ids"].shape
        outputs = [np.empty((*chunk, each.per_token), each.dtype) for each in self._plan.experts]
        for output, address in zip(outputs, self._experts, strict=True):
            self._driver.to_host(output, address)
        self._driver.synchronize()
        return [output.astype(np.int64) for output in outputs]

    def read_cache(self, batch_size: int, slots: int) -> list[NDArray[np.floating[Any]]]:
        """A copy of every key and value in turn, each `[B, H_kv, slots, D]`; bfloat16 as float32."""
        dtype = self._plan.cache.dtype
        stored = np.dtype({"bfloat16": "uint16"}.get(dtype, dtype))
        copies = [np.empty(self._plan.cache.tensor_shape(batch_size), stored) for _ in self._cache]
        for copy, address in zip(copies, self._cache, strict=True):
            self._driver.to_host(copy, address)
        self._driver.synchronize()
        copies = [copy[:, :, :slots] for copy in copies]
        if dtype == "bfloat16":  # the upper half of a float32
            return [(copy.astype(np.uint32) << 16).view(np.float32) for copy in copies]
        return copies
