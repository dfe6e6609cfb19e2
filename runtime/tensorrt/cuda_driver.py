"""The `Driver` of a real GPU."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..errors import MissingError
from .cuda_library import OUT_OF_MEMORY, CudaError, CudaLibrary
from .device import CudaDevice
from .interfaces import Address

NON_BLOCKING_STREAM = 1
"""CU_STREAM_NON_BLOCKING: the legacy stream, which others may use, holds nothing up."""

CAPTURE_MODE_RELAXED = 2
"""CU_STREAM_CAPTURE_MODE_RELAXED: what TensorRT does on the way is not refused."""


class CudaDriver:
    """Memory and one stream of a GPU, in the context that TensorRT uses too (its primary one).

    Args:
        library: The driver's.
        device: The GPU.

    Raises:
        MissingError: The GPU does not answer.
    """

    def __init__(self, library: CudaLibrary, device: CudaDevice) -> None:
        self._library = library
        handle, context, stream = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_void_p()
        library.call("cuDeviceGet", ctypes.byref(handle), ctypes.c_int(device.ordinal))
        library.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), handle)
        library.call("cuCtxSetCurrent", context)
        library.call("cuStreamCreate", ctypes.byref(stream), ctypes.c_uint(NON_BLOCKING_STREAM))
        self._device = device
        self._stream = stream

    @property
    def stream(self) -> int:
        """See `Driver.stream`."""
        return self._stream.value or 0

    def allocate(self, size: int) -> Address:
        """See `Driver.allocate`."""
        address = ctypes.c_uint64()
        try:
            self._library.call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(size))
        except CudaError as error:
            if error.code != OUT_OF_MEMORY:
                raise
            raise MissingError(
                f"{self._device.name} has no room for {size / 1e6:.0f} MB more: end other programs on it, or build the "
                "plan with a smaller --max-length or --max-batch"
            ) from error
        self._library.call("cuMemsetD8Async", address, ctypes.c_ubyte(0), ctypes.c_size_t(size), self._stream)
        return address.value

    def free(self, address: Address) -> None:
        """See `Driver.free`; waits for the work that may still use it."""
        self._library.call("cuMemFree_v2", ctypes.c_uint64(address))

    def host_array(self, shape: Sequence[int], dtype: DTypeLike) -> NDArray[Any]:
        """See `Driver.host_array`: page-locked, as copies that a graph repeats have to be."""
        dtype = np.dtype(dtype)
        size = math.prod(shape) * dtype.itemsize
        pointer = ctypes.c_void_p()
        self._library.call("cuMemAllocHost_v2", ctypes.byref(pointer), ctypes.c_size_t(size))
        assert pointer.value is not None
        buffer = memoryview((ctypes.c_ubyte * size).from_address(pointer.value))
        array: NDArray[Any] = np.frombuffer(buffer, dtype).reshape(tuple(shape))
        array.fill(0)
        return array

    def to_device(self, address: Address, array: NDArray[Any]) -> None:
        """See `Driver.to_device`."""
        assert array.flags.c_contiguous
        self._library.call(
            "cuMemcpyHtoDAsync_v2",
            ctypes.c_uint64(address),
            ctypes.c_void_p(array.ctypes.data),
            ctypes.c_size_t(array.nbytes),
            self._stream,
        )

    def to_host(self, array: NDArray[Any], address: Address) -> None:
        """See `Driver.to_host`."""
        assert array.flags.c_contiguous
        self._library.call(
            "cuMemcpyDtoHAsync_v2",
            ctypes.c_void_p(array.ctypes.data),
            ctypes.c_uint64(address),
            ctypes.c_size_t(array.nbytes),
            self._stream,
        )

    def copy(self, target: Address, source: Address, size: int) -> None:
        """See `Driver.copy`."""
        addresses = ctypes.c_uint64(target), ctypes.c_uint64(source)
        self._library.call("cuMemcpyDtoDAsync_v2", *addresses, ctypes.c_size_t(size), self._stream)

    def synchronize(self) -> None:
        """See `Driver.synchronize`."""
        self._library.call("cuStreamSynchronize", self._stream)

    def begin_capture(self) -> None:
        """See `Driver.begin_capture`."""
        self._library.call("cuStreamBeginCapture_v2", self._stream, ctypes.c_int(CAPTURE_MODE_RELAXED))

    def end_capture(self) -> ctypes.c_void_p:
        """See `Driver.end_capture`."""
        graph, executable = ctypes.c_void_p(), ctypes.c_void_p()
        self._library.call("cuStreamEndCapture", self._stream, ctypes.byref(graph))
        try:
            self._library.call("cuGraphInstantiateWithFlags", ctypes.byref(executable), graph, ctypes.c_ulonglong(0))
        finally:
            self._library.call("cuGraphDestroy", graph)
        return executable

    def launch(self, graph: ctypes.c_void_p) -> None:
        """See `Driver.launch`."""
        self._library.call("cuGraphLaunch", graph, self._stream)

    def discard(self, graph: ctypes.c_void_p) -> None:
        """See `Driver.discard`."""
        self._library.call("cuGraphExecDestroy", graph)
