"""The memory of a plan with a growing cache: two sets of buffers that take turns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .buffers import DeviceBuffers, Shape
from .interfaces import Address, Driver
from .plan import KV_BYTES, Plan


class GrowingBuffers(DeviceBuffers):
    """The plan reads the past from one set and writes past and chunk, joined, into the other.

    Each tensor `[B, H_kv, slots, D]` has no gaps, so that another number of slots is another layout: to roll back, what
    is kept is copied into place, on the device.

    Args:
        driver: Of the device.
        plan: Gives the sizes; its capacity is the most slots.

    Attributes:
        slots: That the cache holds.
    """

    def __init__(self, driver: Driver, plan: Plan) -> None:
        rows, tokens = plan.max_batch, plan.max_batch * plan.max_chunk
        slots = rows * plan.cache.capacity
        inputs = {"input_ids": tokens, "attention_mask": slots, "position_ids": tokens, "last_index": rows}
        self._sets: list[list[Address]] = [[], []]
        self.slots = 0
        super().__init__(driver, plan, inputs)

    def keep(self, batch_size: int, slots: int) -> None:
        """Forget all slots behind the first `slots`, of which the cache holds as many at least."""
        if slots == self.slots:
            return
        cache = self._plan.cache
        slot_bytes = cache.head_dim * KV_BYTES[cache.dtype]
        for source, target in zip(*self._sets, strict=True):
            for head in range(batch_size * cache.num_key_value_heads if slots else 0):
                offset = head * slot_bytes
                self._driver.copy(target + offset * slots, source + offset * self.slots, slots * slot_bytes)
        self._sets.reverse()
        self.slots = slots

    def turn(self) -> None:
        """Take note of a run: what it wrote is what the next one reads."""
        self._sets.reverse()
        self.slots += self.chunk[1]

    def read_cache(self, batch_size: int) -> list[NDArray[np.floating[Any]]]:
        """See `DeviceBuffers.read_cache`; the slots in use."""
        return self._read(self._pasts(), self._shape(batch_size))

    def _allocate_cache(self, tensor_bytes: int) -> None:
        self.slots = 0
        for addresses in self._sets:
            for _ in range(2 * self._plan.cache.num_layers):
                addresses.append(self._driver.allocate(tensor_bytes))

    def _free_cache(self) -> None:
        for addresses in self._sets:
            while addresses:
                self._driver.free(addresses.pop())

    def _pasts(self) -> Sequence[Address]:
        return self._sets[0]

    def _presents(self) -> Sequence[Address]:
        return self._sets[1]

    def _past_shape(self) -> Shape:
        return self._shape(self.chunk[0])

    def _shape(self, batch_size: int) -> Shape:
        cache = self._plan.cache
        return batch_size, cache.num_key_value_heads, self.slots, cache.head_dim
