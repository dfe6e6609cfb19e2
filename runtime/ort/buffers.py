"""Memory that ONNX Runtime reads from and writes into."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import MissingError

MIN_CAPACITY = 256
"""Slots that are allocated at first; doubled whenever they run out."""


class DeviceMemory:
    """Makes values on a device.

    Args:
        onnxruntime: The module.
        device: `cpu` or `cuda`.
    """

    def __init__(self, onnxruntime: ModuleType, device: str) -> None:
        self.device = device
        self._ort_value = onnxruntime.OrtValue

    def put(self, array: NDArray[Any]) -> Any:
        """A value that holds an array; on the CPU it is the array's own memory."""
        return self._ort_value.ortvalue_from_numpy(array, self.device, 0)


def grown_capacity(needed: int, limit: int) -> int:
    """Slots to allocate for `needed` ones: a power of two, at least `MIN_CAPACITY`, but at most `limit`."""
    return min(limit, max(MIN_CAPACITY, 1 << max(needed - 1, 0).bit_length()))


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
