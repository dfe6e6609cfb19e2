"""What is bound to what; the buffers are ONNX Runtime's, the binding is a record."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

from minimind_edge.runtime.errors import MissingError
from minimind_edge.runtime.ort import kv_cache
from minimind_edge.runtime.ort.kv_cache import DeviceMemory, GrowingCache, SharedCache, zeros
from minimind_edge.runtime.session.contract import GraphFacts
from minimind_edge.runtime.session.model import grown_capacity

FACTS = GraphFacts("ort", 1, 2, 4, np.dtype(np.float32), 32, None, None, None, (), "shared")
NAMES = ["past_key_values.0.key", "past_key_values.0.value"], ["present.0.key", "present.0.value"]


class RecordingBinding:
    def __init__(self) -> None:
        self.inputs: dict[str, object] = {}
        self.outputs: dict[str, object] = {}

    def bind_ortvalue_input(self, name, value):
        self.inputs[name] = value

    def bind_ortvalue_output(self, name, value):
        self.outputs[name] = value

    def bind_input(self, name, device, index, dtype, shape, pointer):
        assert (device, index, dtype) == ("cpu", 0, np.float32)
        self.inputs[name] = (shape, pointer)

    def bind_output(self, name, device, index, dtype, shape, pointer):
        assert (device, index, dtype) == ("cpu", 0, np.float32)
        self.outputs[name] = (shape, pointer)


@pytest.fixture
def binding():
    return RecordingBinding()


@pytest.fixture
def make(binding, monkeypatch):
    monkeypatch.setattr("minimind_edge.runtime.session.model.MIN_CAPACITY", 4)
    return lambda kind, limit=20: kind(FACTS, binding, DeviceMemory(onnxruntime, "cpu"), 1, limit)


@pytest.mark.parametrize(
    ("needed", "capacity"), [(0, 256), (1, 256), (256, 256), (257, 512), (513, 1000), (1000, 1000)]
)
def test_capacity_doubles_up_to_the_limit(needed, capacity):
    assert grown_capacity(needed, limit=1000) == capacity


def test_a_limit_below_the_first_step():
    assert grown_capacity(3, limit=10) == 10


def test_one_buffer_is_past_and_present(make, binding):
    cache = make(SharedCache)
    cache.bind(0, 3)
    for past, present in zip(*NAMES, strict=True):
        assert binding.inputs[past] is binding.outputs[present]
        assert binding.inputs[past].shape() == [1, 2, 4, 4]
    assert binding.inputs[NAMES[0][0]] is not binding.inputs[NAMES[0][1]]
    before = dict(binding.inputs)
    cache.bind(3, 4)
    assert binding.inputs == before


def test_shared_buffers_are_aligned_and_lie_next_to_each_other(make, binding):
    cache = make(SharedCache, limit=1 << 12)
    for total in (3, 5, 1 << 12):
        cache.bind(0, total)
        key, value = (binding.inputs[name] for name in NAMES[0])
        assert key.data_ptr() % 64 == 0
        assert value.data_ptr() - key.data_ptr() == key.numpy().nbytes


def test_what_the_buffers_take(make, binding):
    for kind, bytes_behind in ((SharedCache, 4 * 64), (GrowingCache, (4 + 4) * 64)):
        cache = make(kind)
        assert cache.nbytes == 0
        cache.bind(0, 3)
        assert cache.nbytes == bytes_behind  # a key and a value, two heads, four numbers of four bytes a slot
    assert FACTS.kv_bytes_per_slot == 64


def test_a_shared_buffer_grows_in_steps_and_keeps_its_past(make, binding):
    cache = make(SharedCache)
    cache.bind(0, 3)
    name = NAMES[0][0]
    buffer = binding.inputs[name].numpy()
    buffer[:] = np.arange(buffer.size).reshape(buffer.shape)
    expected = buffer[:, :, :3].copy()
    for total, capacity in ((5, 8), (9, 16), (17, 20), (20, 20)):
        cache.bind(3, total)
        new = binding.inputs[name].numpy()
        assert new.shape == (1, 2, capacity, 4)
        assert (new[:, :, :3] == expected).all()
        assert not new[:, :, 3:].any()
        assert binding.outputs["present.0.key"] is binding.inputs[name]


def contents(cache: GrowingCache, length: int) -> np.ndarray:
    """What the next run reads as the first key."""
    return cache._source.values[0].numpy()[: 2 * length * 4].reshape(1, 2, length, 4)


def test_growing_buffers_take_turns(make, binding):
    cache = make(GrowingCache)
    cache.bind(0, 2)
    (empty, _), (two, first) = binding.inputs[NAMES[0][0]], binding.outputs[NAMES[1][0]]
    assert (empty, two) == ((1, 2, 0, 4), (1, 2, 2, 4))
    cache.commit(2)
    cache.bind(2, 3)
    assert binding.inputs[NAMES[0][0]] == ((1, 2, 2, 4), first)
    shape, second = binding.outputs[NAMES[1][0]]
    assert shape == (1, 2, 3, 4)
    assert second != first
    cache.commit(3)
    cache.bind(3, 4)
    assert binding.inputs[NAMES[0][0]] == ((1, 2, 3, 4), second)
    assert binding.outputs[NAMES[1][0]] == ((1, 2, 4, 4), first)


def test_growing_copies_nothing(make, binding):
    cache = make(GrowingCache)
    cache.bind(0, 4)
    cache.commit(4)
    _, full = binding.outputs[NAMES[1][0]]
    cache.bind(4, 5)
    assert binding.inputs[NAMES[0][0]] == ((1, 2, 4, 4), full)
    assert cache._target.capacity == 8


def test_a_run_that_failed_leaves_the_past(make, binding):
    cache = make(GrowingCache)
    cache.bind(0, 2)
    cache.commit(2)
    cache.bind(2, 3)
    bound = dict(binding.inputs)
    cache.bind(2, 4)
    assert binding.inputs == bound


@pytest.mark.parametrize("keep", [1, 3, 4])
def test_rolling_back_lays_out_what_is_kept(make, binding, keep):
    cache = make(GrowingCache)
    cache.bind(0, 5)
    cache.commit(5)
    stored = contents(cache, 5)
    stored[:] = np.arange(stored.size).reshape(stored.shape)
    expected = stored[:, :, :keep].copy()
    cache.bind(keep, keep + 1)
    cache.bind(keep, keep + 1)  # where the run failed
    assert binding.inputs[NAMES[0][0]][0] == (1, 2, keep, 4)
    assert (contents(cache, keep) == expected).all()
    assert binding.inputs[NAMES[0][0]][1] == cache._source.values[0].data_ptr()


def test_rolling_back_to_nothing(make, binding):
    cache = make(GrowingCache)
    cache.bind(0, 5)
    cache.commit(5)
    cache.bind(0, 2)
    assert binding.inputs[NAMES[0][0]][0] == (1, 2, 0, 4)


@pytest.mark.parametrize(("kind", "size"), [(SharedCache, 64), (GrowingCache, 32)])
def test_no_memory(make, monkeypatch, kind, size):
    cache = make(kind, limit=1 << 20)
    cache.bind(0, 2)

    def refuse(shape, dtype):
        raise MemoryError

    monkeypatch.setattr(kv_cache.np, "zeros", refuse)
    with pytest.raises(MissingError, match=f"no memory for a buffer of {size} MiB"):
        cache.bind(0, 1 << 20)


def test_more_than_any_memory():
    with pytest.raises(MissingError, match="lower the batch size"):
        zeros((1 << 40, 1 << 40), np.dtype(np.float32))


@pytest.mark.parametrize("kind", [SharedCache, GrowingCache])
def test_buffers_hold_the_key_value_heads_alone(make, binding, kind):
    cache = make(kind)
    cache.bind(0, 4)
    values = cache._buffers if kind is SharedCache else cache._target.values
    assert [value.tensor_size_in_bytes() for value in values] == [2 * 4 * 4 * 4] * 2
