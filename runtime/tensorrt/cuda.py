"""The CUDA driver: its library by ctypes, the GPU, and memory and a stream on that GPU.

Every machine that can run a plan has the driver's library. Twenty calls by ctypes need no further package, and they
are safe where TensorRT would crash because there is no driver.
"""

from __future__ import annotations

import ctypes
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..errors import MissingError
from .plan import ComputeCapability

Address: TypeAlias = int
"""An address in the device's memory."""

GraphHandle: TypeAlias = Any
"""A driver's opaque handle of a recorded graph."""

LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"

NO_DRIVER = (
    f"no NVIDIA driver here ({LIBRARY} does not load): plans run on NVIDIA GPUs only; install the driver, or run the "
    ".onnx graph of the same model"
)

NO_GPU = "the NVIDIA driver finds no GPU: plans run on NVIDIA GPUs only; see what `nvidia-smi` says"

NO_DEVICE = 100
OUT_OF_MEMORY = 2

COMPUTE_CAPABILITY_MAJOR, COMPUTE_CAPABILITY_MINOR = 75, 76
"""The values of CUdevice_attribute for the two parts of a compute capability."""

NON_BLOCKING_STREAM = 1
"""CU_STREAM_NON_BLOCKING: the stream does not wait for work that others submit to the legacy stream."""

CAPTURE_MODE_RELAXED = 2
"""CU_STREAM_CAPTURE_MODE_RELAXED: allows TensorRT's other CUDA calls during a capture."""


class CudaError(MissingError):
    """A call of the CUDA driver failed, with the CUresult `code`."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class CudaLibrary:
    """The CUDA driver API.

    Raises:
        MissingError: There is no NVIDIA driver.
        CudaError: The driver does not start.
    """

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL(LIBRARY)
        except OSError as error:
            raise MissingError(NO_DRIVER) from error
        try:
            self.call("cuInit", ctypes.c_uint(0))
        except CudaError as error:
            raise MissingError(NO_GPU) if error.code == NO_DEVICE else error from error

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function of the driver.

        Args:
            name: Name of the function, such as `cuMemAlloc_v2`.
            arguments: ctypes values; a plain int would be cut to 32 bits.

        Raises:
            CudaError: The function returned an error.
            MissingError: The driver is too old to have the function.
        """
        try:
            function = getattr(self._library, name)
        except AttributeError as error:
            raise MissingError(f"the NVIDIA driver has no {name}: it is too old; install a newer one") from error
        code = function(*arguments)
        if code:
            raise CudaError(f"the CUDA driver's {name} failed: {self._error_text(code)}", code)

    def _error_text(self, code: int) -> str:
        text = ctypes.c_char_p()
        if self._library.cuGetErrorString(code, ctypes.byref(text)) or text.value is None:
            return f"error {code}"
        return f"{text.value.decode()} (error {code})"


@dataclass(frozen=True)
class CudaDevice:
    """A GPU, as its driver describes it.

    Attributes:
        ordinal: Number of the GPU among those that this process may see.
        name: Product name of the GPU.
        capability: Compute capability of the GPU.
        memory: Size of its memory in bytes.
        driver: Newest CUDA version that the driver supports, such as 13.0.
    """

    ordinal: int
    name: str
    capability: ComputeCapability
    memory: int
    driver: str


def find_device(library: CudaLibrary, ordinal: int = 0) -> CudaDevice:
    """Ask the driver for a GPU.

    Args:
        library: The CUDA driver.
        ordinal: Number of the GPU among those that this process may see.

    Raises:
        MissingError: There is no GPU with this number.
    """
    handle = ctypes.c_int()
    if ordinal >= device_count(library):
        raise MissingError(NO_GPU if ordinal == 0 else f"there is no GPU {ordinal}: {NO_GPU}")
    library.call("cuDeviceGet", ctypes.byref(handle), ctypes.c_int(ordinal))
    name = ctypes.create_string_buffer(256)
    library.call("cuDeviceGetName", name, ctypes.c_int(len(name)), handle)
    memory = ctypes.c_size_t()
    library.call("cuDeviceTotalMem_v2", ctypes.byref(memory), handle)
    version = ctypes.c_int()
    library.call("cuDriverGetVersion", ctypes.byref(version))
    major, minor = (_attribute(library, handle, each) for each in (COMPUTE_CAPABILITY_MAJOR, COMPUTE_CAPABILITY_MINOR))
    return CudaDevice(
        ordinal=ordinal,
        name=name.value.decode(errors="replace"),
        capability=ComputeCapability(major, minor),
        memory=memory.value,
        driver=f"{version.value // 1000}.{version.value % 1000 // 10}",
    )


def device_count(library: CudaLibrary) -> int:
    """The number of GPUs that this process may see."""
    count = ctypes.c_int()
    try:
        library.call("cuDeviceGetCount", ctypes.byref(count))
    except CudaError as error:
        if error.code == NO_DEVICE:
            return 0
        raise
    return count.value


def _attribute(library: CudaLibrary, handle: ctypes.c_int, attribute: int) -> int:
    value = ctypes.c_int()
    library.call("cuDeviceGetAttribute", ctypes.byref(value), ctypes.c_int(attribute), handle)
    return value.value


class Driver(Protocol):
    """A device's memory and one stream, whose work runs in order and asynchronously, until `synchronize`."""

    @property
    def stream(self) -> int:
        """The stream's handle."""
        ...

    def allocate(self, size: int) -> Address:
        """Allocate `size` bytes of zeros on the device.

        Raises:
            MissingError: There is not enough memory.
        """
        ...

    def free(self, address: Address) -> None:
        """Free memory that `allocate` returned."""
        ...

    def host_array(self, shape: Sequence[int], dtype: DTypeLike) -> NDArray[Any]:
        """An array of zeros in host memory that the device can access; it lives as long as the process."""
        ...

    def to_device(self, address: Address, array: NDArray[Any]) -> None:
        """Copy a host array, which must not change before `synchronize`, to the device."""
        ...

    def to_host(self, array: NDArray[Any], address: Address) -> None:
        """Copy from the device into a host array, which is filled after `synchronize`."""
        ...

    def synchronize(self) -> None:
        """Wait for all work of the stream.

        Raises:
            MissingError: The device failed.
        """
        ...

    def begin_capture(self) -> None:
        """Record the work that follows instead of running it."""
        ...

    def end_capture(self) -> GraphHandle:
        """End the recording; the result is a graph for `launch`."""
        ...

    def launch(self, graph: GraphHandle) -> None:
        """Run a graph: the recorded copies and kernels on the same addresses."""
        ...

    def discard(self, graph: GraphHandle) -> None:
        """Free a graph."""
        ...


class CudaDriver:
    """Memory and one stream of a GPU, in its primary context, which TensorRT uses too.

    Args:
        library: The CUDA driver.
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
        """The stream's handle."""
        return self._stream.value or 0

    def allocate(self, size: int) -> Address:
        """Allocate `size` bytes of zeros on the device."""
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
        """Free memory, after waiting for the work that may still use it."""
        self._library.call("cuMemFree_v2", ctypes.c_uint64(address))

    def host_array(self, shape: Sequence[int], dtype: DTypeLike) -> NDArray[Any]:
        """An array of zeros in page-locked memory, which copies in a recorded graph require."""
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
        """Copy a host array, which must not change before `synchronize`, to the device."""
        assert array.flags.c_contiguous
        self._library.call(
            "cuMemcpyHtoDAsync_v2",
            ctypes.c_uint64(address),
            ctypes.c_void_p(array.ctypes.data),
            ctypes.c_size_t(array.nbytes),
            self._stream,
        )

    def to_host(self, array: NDArray[Any], address: Address) -> None:
        """Copy from the device into a host array, which is filled after `synchronize`."""
        assert array.flags.c_contiguous
        self._library.call(
            "cuMemcpyDtoHAsync_v2",
            ctypes.c_void_p(array.ctypes.data),
            ctypes.c_uint64(address),
            ctypes.c_size_t(array.nbytes),
            self._stream,
        )

    def synchronize(self) -> None:
        """Wait for all work of the stream."""
        self._library.call("cuStreamSynchronize", self._stream)

    def begin_capture(self) -> None:
        """Record the work that follows instead of running it."""
        self._library.call("cuStreamBeginCapture_v2", self._stream, ctypes.c_int(CAPTURE_MODE_RELAXED))

    def end_capture(self) -> ctypes.c_void_p:
        """End the recording; the result is a graph for `launch`."""
        graph, executable = ctypes.c_void_p(), ctypes.c_void_p()
        self._library.call("cuStreamEndCapture", self._stream, ctypes.byref(graph))
        try:
            self._library.call("cuGraphInstantiateWithFlags", ctypes.byref(executable), graph, ctypes.c_ulonglong(0))
        finally:
            self._library.call("cuGraphDestroy", graph)
        return executable

    def launch(self, graph: ctypes.c_void_p) -> None:
        """Run a recorded graph."""
        self._library.call("cuGraphLaunch", graph, self._stream)

    def discard(self, graph: ctypes.c_void_p) -> None:
        """Free a graph."""
        self._library.call("cuGraphExecDestroy", graph)
