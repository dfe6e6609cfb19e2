"""Rows of a cache that is written in place: where tokens go, and whose logits come back."""

from __future__ import annotations

import numpy as np
import pytest

from minimind_edge.runtime.errors import ContextLengthError, PromptError, UsageError
from minimind_edge.runtime.session.contract import GraphFacts
from minimind_edge.runtime.session.model import RunArrays
from minimind_edge.runtime.session.session import Session

VOCAB = 50


class Recorder:
    """A model that writes tokens into a cache as a graph would; the logits of a token are one-hot at its id."""

    facts = GraphFacts("tensorrt", 1, 1, 2, np.dtype(np.float32), VOCAB, 16, None, None, (), "static")
    device, max_length, chunk, remedy, run_s, kv_cache_bytes = "cpu", 16, 4, "ask for less", 0.0, 0

    def __init__(self) -> None:
        self.runs: list[tuple[list[int], list[int]]] = []
        self.written = np.zeros((0, 16), np.int64)

    def reserve(self, batch_size: int, max_length: int) -> None:
        if batch_size != len(self.written):
            self.written = np.zeros((batch_size, max_length), np.int64)

    def put(self, array: np.ndarray) -> np.ndarray:
        return array

    def arrays(self, size: int, first: int = 0) -> RunArrays:
        rows = len(self.written)
        inputs = {"input_ids": np.zeros((rows, size), np.int64)}
        inputs |= {name: np.zeros(rows, np.int64) for name in ("write_indices", "last_index")}
        return RunArrays(inputs, np.zeros((rows, 1, VOCAB), np.float32))

    def run(self, arrays: RunArrays) -> None:
        tokens, written, last = (arrays.inputs[name] for name in ("input_ids", "write_indices", "last_index"))
        self.runs.append((written.tolist(), last.tolist()))
        size = tokens.shape[1]
        assert (arrays.past, arrays.total) == (int(written.max()), int(written.max()) + size)
        assert arrays.total <= self.written.shape[1]
        for row, (slot, column) in enumerate(zip(written, last, strict=True)):
            self.written[row, slot : slot + size] = tokens[row]
            arrays.logits[row, 0, tokens[row, column]] = 1

    def cache(self, slots: int) -> list[np.ndarray]:
        return [self.written[:, None, :slots, None].astype(np.float32)] * 2

    def experts(self) -> list[np.ndarray]:
        return []


class RecordedSession(Session):
    """A session whose model's records are its own."""

    def __init__(self) -> None:
        self.model = Recorder()
        super().__init__(self.model)

    @property
    def runs(self) -> list[tuple[list[int], list[int]]]:
        return self.model.runs

    @property
    def written(self) -> np.ndarray:
        return self.model.written


@pytest.fixture
def session() -> RecordedSession:
    return RecordedSession()


def chosen(logits: np.ndarray) -> list[int]:
    return logits.argmax(1).tolist()


def test_a_long_prompt_runs_in_chunks(session):
    assert chosen(session.prefill(np.arange(1, 11)[None])) == [10]
    assert session.runs == [([0], [0]), ([4], [0]), ([8], [1])]
    assert session.written[0, :10].tolist() == list(range(1, 11))
    assert (session.length, session.batch_size) == (10, 1)


def test_padding_takes_no_slot(session):
    ids = np.array([[9, 9, 1, 2, 3], [4, 5, 6, 7, 8], [9, 1, 9, 9, 9]])
    mask = np.array([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1], [0, 1, 0, 0, 0]])
    assert chosen(session.prefill(ids, mask)) == [3, 8, 1]
    assert session.runs == [([0, 0, 0], [2, 0, 0]), ([3, 4, 1], [0, 0, 0])]
    assert session.length == 5
    assert chosen(session.decode(np.array([11, 12, 13]))) == [11, 12, 13]
    assert session.runs[-1] == ([3, 5, 1], [0, 0, 0])
    assert session.written[:, :6].tolist()[0][:4] == [1, 2, 3, 11]
    assert session.written[2, :2].tolist() == [1, 13]


def test_a_roll_back_counts_padding(session):
    session.prefill(np.array([[9, 9, 1, 2], [3, 4, 5, 6]]), np.array([[0, 0, 1, 1], [1, 1, 1, 1]]))
    session.truncate(3)
    session.decode(np.array([7, 8]))
    assert session.runs[-1] == ([1, 3], [0, 0])
    assert session.length == 4


def test_the_last_slot_is_used_and_no_further(session):
    session.prefill(np.ones((1, 15), np.int64))
    session.decode(np.array([1]))
    runs = len(session.runs)
    for call in (lambda: session.decode(np.array([1])), lambda: session.prefill(np.ones((1, 1), np.int64))):
        with pytest.raises(ContextLengthError, match=r"1 more tokens after 16 .* ask for less"):
            call()
    assert (len(session.runs), session.length) == (runs, 16)


def test_bad_calls(session):
    session.prefill(np.ones((2, 1), np.int64))
    with pytest.raises(PromptError, match="2 rows, found 1"):
        session.prefill(np.ones((1, 1), np.int64))
    with pytest.raises(PromptError, match="vocabulary of 50"):
        session.decode(np.array([1, VOCAB]))
    with pytest.raises(UsageError, match="cannot keep 2"):
        session.truncate(2)
    with pytest.raises(UsageError, match="at least 1"):
        session.reset(0)


def test_what_is_cached_is_shown_where_padding_is_counted(session):
    session.prefill(np.array([[9, 9, 1, 2], [3, 4, 5, 6]]), np.array([[0, 0, 1, 1], [1, 1, 1, 1]]))
    session.decode(np.array([7, 8]))
    assert [each[:, 0, :, 0].tolist() for each in session.cache()] == [[[0, 0, 1, 2, 7], [3, 4, 5, 6, 8]]] * 2
