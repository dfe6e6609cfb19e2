"""The NVIDIA GPU at hand."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from ..errors import MissingError
from .compute_capability import ComputeCapability
from .cuda_library import NO_DEVICE, NO_GPU, CudaError, CudaLibrary

COMPUTE_CAPABILITY_MAJOR, COMPUTE_CAPABILITY_MINOR = 75, 76
"""CUdevice_attribute."""


@dataclass(frozen=True)
class CudaDevice:
    """A GPU.

    Attributes:
        ordinal: Its number.
        name: As its maker calls it.
        capability: Its compute capability.
        memory: Bytes that it has.
        driver: Newest CUDA version that the driver supports, as in 13.0.
    """

    ordinal: int
    name: str
    capability: ComputeCapability
    memory: int
    driver: str


def find_device(library: CudaLibrary, ordinal: int = 0) -> CudaDevice:
    """Ask the driver for a GPU.

    Args:
        library: The driver's.
        ordinal: The GPU's number among those that this process may see.

    Raises:
        MissingError: There is none of this number.
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
    """GPUs that this process may see."""
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
