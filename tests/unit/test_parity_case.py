"""Layouts, chunks and positions, by hand; the suite fits the graph it is drawn for."""

from __future__ import annotations

import numpy as np
import pytest

from minimind_edge.export.parity import Suite
from minimind_edge.export.parity.case import Case, layout_of, unpadded


def test_left_padding_then_a_step() -> None:
    layout = layout_of([((3, 1), "left"), ((1, 1), "left")])
    assert layout.tolist() == [[0, 1, 2, 3], [-1, -1, 0, 1]]


def test_padding_between_chunks() -> None:
    layout = layout_of([((2, 1), "right"), ((1, 2), "left")])
    assert layout.tolist() == [[0, 1, -1, 2], [0, -1, 1, 2]]


def test_chunks_of_a_padded_batch() -> None:
    rows = (np.array([10, 11, 12, 13]), np.array([20, 21]))
    case = Case("padded", rows, layout_of([((3, 1), "left"), ((1, 1), "left")]), (3, 1))
    first, second = case.chunks()
    assert first.input_ids[0].tolist() == [10, 11, 12]
    assert first.input_ids[1, 2] == 20
    assert first.attention_mask.tolist() == [[1, 1, 1], [0, 0, 1]]
    assert first.position_ids[0].tolist() == [0, 1, 2]
    assert first.position_ids[1, 2] == 0
    assert (second.start, second.input_ids.tolist()) == (3, [[13], [21]])
    assert second.attention_mask.tolist() == [[1, 1, 1, 1], [0, 0, 1, 1]]
    assert second.position_ids.tolist() == [[3], [1]]


def test_positions_of_its_own() -> None:
    case = unpadded("far", np.array([5, 6, 7]), (2, 1), np.array([0, 100, 4000]))
    assert [chunk.position_ids.tolist() for chunk in case.chunks()] == [[[0, 100]], [[4000]]]


@pytest.mark.parametrize("thorough", [False, True])
def test_suite_covers_what_the_contract_names(thorough: bool) -> None:
    cases = list(Suite(100, 4096, thorough).cases())
    assert {1, 65} <= {case.slots for case in cases if len(case.splits) == 1}
    assert any(len(case.rows) == 1 and case.splits[:2] == (1, 23) for case in cases)
    assert any((case.layout[:, 0] < 0).any() for case in cases), "left padding"
    assert any((case.layout[:, -3:-2] < 0).any() for case in cases), "right padding, with tokens after it"
    far = next(case for case in cases if case.positions is not None)
    assert far.positions is not None
    assert far.positions[0][-1] == 4095
    assert (np.diff(far.positions[0]) > 0).all()


@pytest.mark.parametrize("max_length", [1, 2, 20, 64])
def test_suite_fits_a_short_graph(max_length: int) -> None:
    suite = Suite(100, max_length)
    cases = list(suite.cases())
    assert cases
    assert all(case.slots <= max_length and sum(case.splits) == case.slots for case in cases)
    assert all(positions.max() < max_length for case in cases for positions in case.positions or ())
    assert len(suite.greedy_prompt()) + suite.greedy_steps(1000) - 1 == max_length


def test_suite_draws_the_same_tokens_every_time() -> None:
    first, second = (list(Suite(6400, 128).cases()) for _ in range(2))
    assert all((a.rows[0] == b.rows[0]).all() for a, b in zip(first, second, strict=True))
    assert all(((row >= 0) & (row < 6400)).all() for case in first for row in case.rows)
