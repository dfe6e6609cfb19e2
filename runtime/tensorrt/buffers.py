"""All that a plan reads and writes, in the device's memory, at addresses that stay."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..graph_facts import cache_names
from ..session import Logits, TokenIds
from .interfaces import TOKENS, Address, Driver
from .plan import Plan


class DeviceBuffers:
    """Tokens in, logits out, and the cache between.

    Past and present have one address: the plan writes the cache in place.

    Args:
        driver: Of the device.
        plan: Gives the sizes.

    Attributes:
        write_indices: `[max_batch]` int32 on the host: where each row's tokens go, from the first on.
        last_index: `[max_batch]` int32 on the host: of which token of a row the logits are wanted.
    """

    def __init__(self, driver: Driver, plan: Plan) -> None:
        self._driver = driver
        self._plan = plan
        rows, tokens = plan.max_batch, plan.max_batch * plan.max_chunk
        self._ids = driver.host_array((tokens,), TOKENS)
        self.write_indices = driver.host_array((rows,), TOKENS)
        self.last_index = driver.host_array((rows,), TOKENS)
        self._logits: Logits = driver.host_array((rows, plan.vocab_size), np.float32)
        self._inputs: dict[str, Address] = {
            "input_ids": driver.allocate(self._ids.nbytes),
            "write_indices": driver.allocate(self.write_indices.nbytes),
            "last_index": driver.allocate(self.last_index.nbytes),
        }
        self._logits_address = driver.allocate(self._logits.nbytes)
        self._cache: list[Address] = []
        self._rows = 0

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
        size = self._plan.cache.tensor_bytes(batch_size)
        for _ in range(2 * self._plan.cache.num_layers):
            # Zeros matter: a slot that is hidden counts nothing times what it holds, and NaN times nothing is NaN.
            self._cache.append(self._driver.allocate(size))
        self._rows = batch_size
        return True

    def addresses(self) -> Iterator[tuple[str, Address]]:
        """Where each input and output of the plan lies."""
        yield from self._inputs.items()
        yield "logits", self._logits_address
        layers = self._plan.cache.num_layers
        for prefix in ("past_key_values", "present"):
            yield from zip(cache_names(prefix, layers), self._cache, strict=True)

    def shapes(self, batch_size: int, length: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Shape of each input for a chunk of `length` tokens a row."""
        yield "input_ids", (batch_size, length)
        yield "write_indices", (batch_size,)
        yield "last_index", (batch_size,)
        cache = self._plan.cache
        for name in cache_names("past_key_values", cache.num_layers):
            yield name, cache.tensor_shape(batch_size)

    def input_ids(self, batch_size: int, length: int) -> TokenIds:
        """The token ids on the host, `[B, S]` int32, to be filled."""
        return self._ids[: batch_size * length].reshape(batch_size, length)

    def logits(self, batch_size: int) -> Logits:
        """The logits on the host, `[B, V]`."""
        return self._logits[:batch_size]

    def read_cache(self, batch_size: int) -> list[NDArray[np.floating[Any]]]:
        """A copy of every key and value by turns, each `[B, H_kv, capacity, D]`; bfloat16 as float32."""
        cache = self._plan.cache
        stored = np.dtype({"bfloat16": "uint16"}.get(cache.dtype, cache.dtype))
        copies = [np.empty(cache.tensor_shape(batch_size), stored) for _ in self._cache]
        for copy, address in zip(copies, self._cache, strict=True):
            self._driver.to_host(copy, address)
        self._driver.synchronize()
        if cache.dtype == "bfloat16":  # the upper half of a float32
            return [(copy.astype(np.uint32) << 16).view(np.float32) for copy in copies]
        return copies

    def send(self, batch_size: int, length: int) -> None:
        """Copy the inputs to the device."""
        sources = (self.input_ids(batch_size, length), self.write_indices[:batch_size], self.last_index[:batch_size])
        for address, array in zip(self._inputs.values(), sources, strict=True):
            self._driver.to_device(address, array)

    def fetch(self, batch_size: int) -> None:
        """Copy the logits to the host."""
        self._driver.to_host(self.logits(batch_size), self._logits_address)
