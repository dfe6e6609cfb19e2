"""The CUDA driver by ctypes: memory, copies in order, and a record that repeats them."""

from __future__ import annotations

import numpy as np
import pytest

from minimind_edge.runtime.errors import MissingError


def test_the_gpu_tells_of_itself(device):
    assert device.name
    assert device.memory > 1 << 28
    assert device.capability.major >= 5


def test_fresh_memory_is_zero_and_keeps_what_is_copied(driver):
    address = driver.allocate(4096)
    host = driver.host_array((1024,), np.int32)
    host[:] = -1
    driver.to_host(host, address)
    driver.synchronize()
    assert not host.any()
    host[:] = np.arange(1024)
    driver.to_device(address, host)
    driver.synchronize()
    host[:] = 0
    driver.to_host(host, address)
    driver.synchronize()
    assert (host == np.arange(1024)).all()
    driver.free(address)


def test_a_record_repeats_with_what_the_host_holds_then(driver):
    address = driver.allocate(64)
    there, back = driver.host_array((16,), np.int32), driver.host_array((16,), np.int32)
    driver.synchronize()
    driver.begin_capture()
    driver.to_device(address, there)
    driver.to_host(back, address)
    graph = driver.end_capture()
    for value in (1, 2, 3):
        there[:] = value
        driver.launch(graph)
        driver.synchronize()
        assert (back == value).all()
    driver.discard(graph)
    driver.free(address)


def test_more_memory_than_there_is(driver, device):
    with pytest.raises(MissingError, match="has no room"):
        driver.allocate(2 * device.memory)
