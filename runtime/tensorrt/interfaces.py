"""What the session asks of the CUDA driver and of TensorRT, and nothing more.

`Engine` and `Context` are the part of TensorRT's own API that is used, under its own names, so that its objects fit as
they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

Address: TypeAlias = int
"""In the device's memory."""

GraphHandle: TypeAlias = Any
"""What a driver records for repetition; whoever holds it hands it back unopened."""


class Driver(Protocol):
    """A device's memory, and one stream of work on it; what is asked for runs in order, later, until `synchronize`."""

    @property
    def stream(self) -> int:
        """The stream's handle."""
        ...

    def allocate(self, size: int) -> Address:
        """Memory of `size` bytes on the device, all zeros.

        Raises:
            MissingError: There is not as much.
        """
        ...

    def free(self, address: Address) -> None:
        """Give back what `allocate` gave."""
        ...

    def host_array(self, shape: Sequence[int], dtype: DTypeLike) -> NDArray[Any]:
        """An array of zeros that the device reads and writes by itself; it is there as long as the process."""
        ...

    def to_device(self, address: Address, array: NDArray[Any]) -> None:
        """Copy a host array; it must not change before `synchronize`."""
        ...

    def to_host(self, array: NDArray[Any], address: Address) -> None:
        """Copy into a host array; it is filled after `synchronize`."""
        ...

    def copy(self, target: Address, source: Address, size: int) -> None:
        """Copy bytes on the device; the two pieces do not overlap."""
        ...

    def synchronize(self) -> None:
        """Wait for all of the work.

        Raises:
            MissingError: The device failed.
        """
        ...

    def begin_capture(self) -> None:
        """Record what is asked for from now on instead of running it."""
        ...

    def end_capture(self) -> GraphHandle:
        """The record, as a graph that `launch` runs."""
        ...

    def launch(self, graph: GraphHandle) -> None:
        """Run a graph: the same copies and kernels on the same addresses."""
        ...

    def discard(self, graph: GraphHandle) -> None:
        """Let go of a graph."""
        ...


class Context(Protocol):
    """An execution of an engine: shapes and addresses, then launches (TensorRT's `IExecutionContext`)."""

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        """Choose the profile whose shapes are run."""
        ...

    def set_input_shape(self, name: str, shape: Sequence[int]) -> bool:
        """Set an input's shape, inside the profile's range."""
        ...

    def set_tensor_address(self, name: str, memory: Address) -> bool:
        """Say where an input or output lies."""
        ...

    def execute_async_v3(self, stream_handle: int) -> bool:
        """Launch on a stream."""
        ...


class Engine(Protocol):
    """A loaded plan (TensorRT's `ICudaEngine`)."""

    @property
    def num_io_tensors(self) -> int:
        """Inputs and outputs."""
        ...

    @property
    def num_optimization_profiles(self) -> int:
        """Profiles."""
        ...

    def get_tensor_name(self, index: int) -> str:
        """Name of an input or output."""
        ...

    def get_tensor_shape(self, name: str) -> Sequence[int]:
        """Its shape, -1 where an axis varies."""
        ...


TOKENS = np.dtype(np.int32)
"""Of every input beside the cache."""
