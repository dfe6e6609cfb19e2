"""The calls of the CUDA driver, on a fake of its library whose device memory is the host's."""

# The names of the calls are CUDA's.
# ruff: noqa: N802, N815

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from minimind_edge.runtime.errors import MissingError
from minimind_edge.runtime.tensorrt.cuda import OUT_OF_MEMORY, CudaDevice, CudaDriver, CudaError
from minimind_edge.runtime.tensorrt.plan import ComputeCapability

DEVICE = CudaDevice(0, "NVIDIA Test", ComputeCapability(8, 6), 1 << 20, "13.0")


class FakeLibrary:
    """The calls that `CudaDriver` makes, by their signatures in CUDA's manual; copies are done at once."""

    def __init__(self):
        self.memory = {}
        self.calls = []

    def call(self, name, *arguments):
        self.calls.append(name)
        getattr(self, name)(*arguments)

    def cuDeviceGet(self, handle, ordinal):
        assert ordinal.value == DEVICE.ordinal
        handle._obj.value = 7

    def cuDevicePrimaryCtxRetain(self, context, handle):
        assert handle.value == 7
        context._obj.value = 0xC0

    def cuCtxSetCurrent(self, context):
        assert context.value == 0xC0

    def cuStreamCreate(self, stream, flags):
        assert flags.value == 1
        stream._obj.value = 0x57

    def cuMemAlloc_v2(self, address, size):
        if size.value > DEVICE.memory:
            raise CudaError("out of memory", OUT_OF_MEMORY)
        buffer = ctypes.create_string_buffer(b"\xff" * size.value, size.value)
        address._obj.value = ctypes.addressof(buffer)
        self.memory[address._obj.value] = buffer

    cuMemAllocHost_v2 = cuMemAlloc_v2

    def cuMemFree_v2(self, address):
        del self.memory[address.value]

    def cuMemsetD8Async(self, address, value, size, stream):
        assert stream.value == 0x57
        ctypes.memset(address.value, value.value, size.value)

    def cuMemcpyHtoDAsync_v2(self, address, source, size, stream):
        assert stream.value == 0x57
        assert isinstance(address, ctypes.c_uint64)
        ctypes.memmove(address.value, source.value, size.value)

    def cuMemcpyDtoHAsync_v2(self, target, address, size, stream):
        assert stream.value == 0x57
        ctypes.memmove(target.value, address.value, size.value)

    def cuStreamSynchronize(self, stream):
        assert stream.value == 0x57

    def cuStreamBeginCapture_v2(self, stream, mode):
        assert (stream.value, mode.value) == (0x57, 2)

    def cuStreamEndCapture(self, stream, graph):
        graph._obj.value = 0x61

    def cuGraphInstantiateWithFlags(self, executable, graph, flags):
        assert (graph.value, flags.value) == (0x61, 0)
        executable._obj.value = 0x62

    def cuGraphDestroy(self, graph):
        assert graph.value == 0x61

    def cuGraphLaunch(self, executable, stream):
        assert (executable.value, stream.value) == (0x62, 0x57)

    def cuGraphExecDestroy(self, executable):
        assert executable.value == 0x62


@pytest.fixture
def library():
    return FakeLibrary()


@pytest.fixture
def driver(library):
    return CudaDriver(library, DEVICE)


def test_the_stream_is_its_handle(driver):
    assert driver.stream == 0x57


def test_there_and_back(driver, library):
    there, back = driver.host_array((3, 5), np.int32), driver.host_array((3, 5), np.int32)
    assert not there.any()
    address = driver.allocate(there.nbytes)
    driver.to_host(back, address)
    assert not back.any()
    there[:] = np.arange(15).reshape(3, 5)
    driver.to_device(address, there)
    driver.to_host(back, address)
    driver.synchronize()
    assert (back == there).all()
    driver.free(address)
    assert address not in library.memory


def test_host_arrays_are_the_memory_that_the_driver_gave(driver, library):
    array = driver.host_array((4,), np.float32)
    assert array.ctypes.data in library.memory
    assert array.flags.writeable


def test_a_record(driver, library):
    driver.begin_capture()
    graph = driver.end_capture()
    driver.launch(graph)
    driver.discard(graph)
    assert library.calls[-6:] == [
        "cuStreamBeginCapture_v2",
        "cuStreamEndCapture",
        "cuGraphInstantiateWithFlags",
        "cuGraphDestroy",
        "cuGraphLaunch",
        "cuGraphExecDestroy",
    ]


def test_no_room(driver):
    with pytest.raises(MissingError, match=r"NVIDIA Test has no room for 2 MB more.*--max-length"):
        driver.allocate(2 << 20)
