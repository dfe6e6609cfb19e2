"""What lies where on the device."""

from __future__ import annotations

import numpy as np
import pytest
from tensorrt_standin import StandInDriver

from minimind_edge.runtime.tensorrt.model import DeviceBuffers


@pytest.fixture
def buffers(plan, description):
    def make(dtype="float32"):
        cache = description()["kv_cache"] | {"dtype": dtype}
        driver = StandInDriver()
        return DeviceBuffers(driver, plan(kv_cache=cache)), driver

    return make


def test_past_and_present_have_one_address_and_nothing_else_has(buffers):
    found, driver = buffers()
    found.reserve(2)
    addresses = dict(found.addresses())
    assert len(addresses) == 3 + 1 + 4 + 4
    for name, address in addresses.items():
        if name.startswith("past_key_values"):
            assert addresses[name.replace("past_key_values", "present")] == address
    assert len(set(addresses.values())) == 3 + 1 + 4 == len(driver.memory)
    assert driver.memory[addresses["present.1.key"]].size == 2 * 2 * 32 * 16 * 4


def test_a_cache_is_kept_for_fewer_rows_and_replaced_for_more(buffers):
    found, driver = buffers()
    assert found.reserve(2)
    before = dict(found.addresses())
    assert not found.reserve(1)
    assert not found.reserve(2)
    assert dict(found.addresses()) == before
    assert found.reserve(3)
    assert dict(found.addresses()) != before
    assert len(driver.memory) == 3 + 1 + 4


@pytest.mark.parametrize(
    ("dtype", "stored"),
    # 1, -2.5 and 3 as bfloat16: the upper halves of 0x3F800000, 0xC0200000 and 0x40400000.
    [
        ("float32", np.float32([1, -2.5, 3])),
        ("float16", np.float16([1, -2.5, 3])),
        ("bfloat16", np.uint16([0x3F80, 0xC020, 0x4040])),
    ],
)
def test_the_cache_is_read_in_its_own_type(buffers, dtype, stored):
    found, driver = buffers(dtype)
    found.reserve(1)
    driver.memory[dict(found.addresses())["present.0.value"]][: stored.nbytes] = stored.view(np.uint8)
    tensors = found.read_cache(1, 32)
    assert [each.shape for each in tensors] == [(1, 2, 32, 16)] * 4
    assert tensors[1].reshape(-1)[:4].tolist() == [1, -2.5, 3, 0]
    assert not any(tensors[index].any() for index in (0, 2, 3))
    wanted = [np.full((1, 2, 1, 16), number, each.dtype) for number, each in zip((1, -2.5, 3, 0), tensors, strict=True)]
    found.write_cache(wanted, 1, 1)
    for name, number in zip(("0.key", "0.value", "1.key"), stored, strict=True):
        memory = driver.memory[dict(found.addresses())[f"present.{name}"]].view(stored.dtype).reshape(2, 32, 16)
        assert (memory[:, 0] == number).all()
        assert not memory[:, 1:].any()
