"""Positions and masks, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from minimind_edge.runtime.session.layout import PAGE, SlotMask


@pytest.fixture
def slots():
    return SlotMask(lambda array: array, batch_size=2, limit=100)


def step(slots: SlotMask, length: int) -> list[int]:
    positions = np.zeros(2, np.int64).data
    slots.step(length, positions)
    return positions.tolist()


def chunk(slots: SlotMask, length: int, mask: list[list[int]]) -> list[list[int]]:
    return slots.prefill(length, np.array(mask)).tolist()


def test_without_padding_positions_are_slots(slots):
    assert chunk(slots, 0, [[1, 1, 1], [1, 1, 1]]) == [[0, 1, 2], [0, 1, 2]]
    assert step(slots, 3) == [3, 3]
    assert chunk(slots, 4, [[1, 1], [1, 1]]) == [[4, 5], [4, 5]]
    assert slots.value(6).tolist() == [[1] * 6] * 2


def test_left_padding(slots):
    assert chunk(slots, 0, [[0, 0, 1, 1], [1, 1, 1, 1]]) == [[0, 0, 0, 1], [0, 1, 2, 3]]
    assert step(slots, 4) == [2, 4]
    assert step(slots, 5) == [3, 5]
    assert slots.value(6).tolist() == [[0, 0, 1, 1, 1, 1], [1] * 6]


def test_right_padding(slots):
    assert chunk(slots, 0, [[1, 1, 0, 0], [1, 1, 1, 1]]) == [[0, 1, 1, 1], [0, 1, 2, 3]]
    assert step(slots, 4) == [2, 4]
    assert slots.value(5).tolist() == [[1, 1, 0, 0, 1], [1] * 5]


def test_padding_that_comes_later(slots):
    chunk(slots, 0, [[1, 1], [1, 1]])
    assert chunk(slots, 2, [[1, 0], [0, 1]]) == [[2, 2], [1, 2]]
    assert step(slots, 4) == [3, 3]
    assert slots.value(5).tolist() == [[1, 1, 1, 0, 1], [1, 1, 0, 1, 1]]


def test_rolled_back(slots):
    chunk(slots, 0, [[1, 1, 0, 0], [1, 1, 1, 0]])
    step(slots, 4)
    assert step(slots, 3) == [2, 3]  # slot 3 was padding, now it is a token
    assert slots.value(4).tolist() == [[1, 1, 0, 1], [1, 1, 1, 1]]
    assert chunk(slots, 2, [[1], [0]]) == [[2], [1]]
    assert step(slots, 3) == [3, 2]


def test_a_step_that_is_run_again(slots):
    chunk(slots, 0, [[0, 1], [1, 1]])
    assert step(slots, 2) == [1, 2]
    assert step(slots, 2) == [1, 2]


def test_no_padding_is_left_after_a_roll_back(slots):
    chunk(slots, 0, [[1, 1, 0], [1, 1, 1]])
    slots.value(3)
    assert chunk(slots, 2, [[1, 1], [1, 1]]) == [[2, 3], [2, 3]]
    assert slots.value(4).tolist() == [[1] * 4] * 2


def test_over_many_pages_and_buffers(slots, monkeypatch):
    monkeypatch.setattr("minimind_edge.runtime.session.model.MIN_CAPACITY", 4)
    chunk(slots, 0, [[0, 1], [1, 1]])
    for length in range(2, 100):
        assert step(slots, length) == [length - 1, length]
        assert slots.value(length + 1).tolist() == [[0] + [1] * length, [1] * (length + 1)]


def test_masks_are_made_a_page_at_a_time():
    made = []
    slots = SlotMask(lambda array: made.append(array.shape) or array, batch_size=1, limit=300)
    slots.prefill(0, np.ones((1, 5), np.int64))
    first = slots.value(5)
    assert made == [(1, length) for length in range(5, 5 + PAGE)]
    for length in range(5, 5 + PAGE):
        assert slots.value(length).shape == (1, length)
    assert len(made) == PAGE
    assert slots.value(5) is first
    slots.prefill(5, np.ones((1, 290), np.int64))
    slots.value(295)
    assert made[PAGE:] == [(1, length) for length in range(295, 301)]  # there are 300 slots
