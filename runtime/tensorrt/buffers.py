"""All that a plan reads and writes, in the device's memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..session.contract import cache_names
from ..session.session import Logits
from .interfaces import TOKENS, Address, Driver
from .plan import Plan

Shape = tuple[int, ...]


class InputBuffer:
    """An input on the host and on the device, with room for each of its shapes.

    Args:
        driver: Of the device.
        most: Numbers of its largest shape.

    Attributes:
        address: On the device.
        values: On the host, int32: what was filled in last.
    """

    def __init__(self, driver: Driver, most: int) -> None:
        self._host = driver.host_array((most,), TOKENS)
        self.address = driver.allocate(self._host.nbytes)
        self.values: NDArray[np.int32] = self._host[:0]

    def fill(self, values: NDArray[Any]) -> None:
        """Take over these numbers; equal shapes lie at equal addresses, as a recorded copy needs it."""
        self.values = self._host[: values.size].reshape(values.shape)
        self.values[...] = values


class DeviceBuffers(ABC):
    """Tokens in, logits out, and the cache between.

    Args:
        driver: Of the device.
        plan: Gives the sizes.
        inputs: Most numbers of each input beside the cache.
    """

    def __init__(self, driver: Driver, plan: Plan, inputs: Mapping[str, int]) -> None:
        self._driver = driver
        self._plan = plan
        self._inputs = {name: InputBuffer(driver, most) for name, most in inputs.items()}
        self._logits: Logits = driver.host_array((plan.max_batch, plan.vocab_size), np.float32)
        self._logits_address = driver.allocate(self._logits.nbytes)
        tokens = plan.max_batch * plan.max_chunk
        self._experts = [driver.allocate(tokens * each.per_token * each.dtype.itemsize) for each in plan.experts]
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
        self._free_cache()
        self._allocate_cache(self._plan.cache.tensor_bytes(batch_size))
        self._rows = batch_size
        return True

    @property
    def chunk(self) -> tuple[int, int]:
        """Rows and tokens a row of what was filled in last, B and S."""
        batch_size, length = self._inputs["input_ids"].values.shape
        return batch_size, length

    def fill(self, inputs: Mapping[str, NDArray[Any]]) -> None:
        """Take over the inputs of the next run, by name; `input_ids` is `[B, S]`."""
        for name, values in inputs.items():
            self._inputs[name].fill(values)

    def addresses(self) -> Iterator[tuple[str, Address]]:
        """Where each input and output of the plan lies."""
        for name, buffer in self._inputs.items():
            yield name, buffer.address
        yield "logits", self._logits_address
        for each, address in zip(self._plan.experts, self._experts, strict=True):
            yield each.name, address
        layers = self._plan.cache.num_layers
        for prefix, cache in (("past_key_values", self._pasts()), ("present", self._presents())):
            yield from zip(cache_names(prefix, layers), cache, strict=True)

    def shapes(self) -> Iterator[tuple[str, Shape]]:
        """Shape of each input for what was filled in."""
        for name, buffer in self._inputs.items():
            yield name, buffer.values.shape
        past = self._past_shape()
        for name in cache_names("past_key_values", self._plan.cache.num_layers):
            yield name, past

    def logits(self) -> Logits:
        """The logits on the host, `[B, V]`."""
        return self._logits[: self.chunk[0]]

    def send(self) -> None:
        """Copy the inputs to the device."""
        for buffer in self._inputs.values():
            self._driver.to_device(buffer.address, buffer.values)

    def fetch(self) -> None:
        """Copy the logits to the host."""
        self._driver.to_host(self.logits(), self._logits_address)

    def read_experts(self) -> list[NDArray[np.int64]]:
        """A copy of the experts that the last run chose in each layer, `[B, S, k]`; empty for a dense model."""
        outputs = [np.empty((*self.chunk, each.per_token), each.dtype) for each in self._plan.experts]
        for output, address in zip(outputs, self._experts, strict=True):
            self._driver.to_host(output, address)
        self._driver.synchronize()
        return [output.astype(np.int64) for output in outputs]

    @abstractmethod
    def read_cache(self, batch_size: int) -> list[NDArray[np.floating[Any]]]:
        """A copy of every key and value by turns, each `[B, H_kv, slots, D]`; bfloat16 as float32."""

    @abstractmethod
    def _allocate_cache(self, tensor_bytes: int) -> None:
        """Take memory for keys and values of so many bytes each."""

    @abstractmethod
    def _free_cache(self) -> None:
        """Give that memory back, as far as there is some."""

    @abstractmethod
    def _pasts(self) -> Sequence[Address]:
        """Where every key and value is read, by turns."""

    @abstractmethod
    def _presents(self) -> Sequence[Address]:
        """Where every key and value is written, by turns."""

    @abstractmethod
    def _past_shape(self) -> Shape:
        """Of each key and value that the next run reads."""

    def _read(self, addresses: Sequence[Address], shape: Shape) -> list[NDArray[np.floating[Any]]]:
        """Copies of keys and values of one shape."""
        dtype = self._plan.cache.dtype
        stored = np.dtype({"bfloat16": "uint16"}.get(dtype, dtype))
        copies = [np.empty(shape, stored) for _ in addresses]
        for copy, address in zip(copies, addresses, strict=True):
            self._driver.to_host(copy, address)
        self._driver.synchronize()
        if dtype == "bfloat16":  # the upper half of a float32
            return [(copy.astype(np.uint32) << 16).view(np.float32) for copy in copies]
        return copies
