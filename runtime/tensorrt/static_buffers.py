"""The memory of a plan with a static cache: every address stays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .buffers import DeviceBuffers, Shape
from .interfaces import Address, Driver
from .plan import Plan


class StaticBuffers(DeviceBuffers):
    """Past and present have one address: the plan writes the cache in place.

    Args:
        driver: Of the device.
        plan: Gives the sizes.
    """

    def __init__(self, driver: Driver, plan: Plan) -> None:
        rows = plan.max_batch
        inputs = {"input_ids": rows * plan.max_chunk, "write_indices": rows, "last_index": rows}
        self._cache: list[Address] = []
        super().__init__(driver, plan, inputs)

    def read_cache(self, batch_size: int) -> list[NDArray[np.floating[Any]]]:
        """See `DeviceBuffers.read_cache`; all slots of the capacity."""
        return self._read(self._cache, self._plan.cache.tensor_shape(batch_size))

    def _allocate_cache(self, tensor_bytes: int) -> None:
        for _ in range(2 * self._plan.cache.num_layers):
            # Zeros matter: a slot that is hidden counts nothing times what it holds, and NaN times nothing is NaN.
            self._cache.append(self._driver.allocate(tensor_bytes))

    def _free_cache(self) -> None:
        while self._cache:
            self._driver.free(self._cache.pop())

    def _pasts(self) -> Sequence[Address]:
        return self._cache

    def _presents(self) -> Sequence[Address]:
        return self._cache

    def _past_shape(self) -> Shape:
        return self._plan.cache.tensor_shape(self.chunk[0])
