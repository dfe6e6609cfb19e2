"""Rows of a cache that is written in place: where tokens go, and whose logits come back."""

from __future__ import annotations

import numpy as np
import pytest

from minimind_edge.runtime.errors import ContextLengthError, PromptError, UsageError
from minimind_edge.runtime.session.static_session import StaticSession

VOCAB = 50


class Recorder(StaticSession):
    """Writes tokens into a cache as a graph would; the logits of a token are one-hot at its id."""

    def __init__(self, max_length: int = 16, chunk: int = 4) -> None:
        self.runs: list[tuple[list[int], list[int]]] = []
        self.cache = np.zeros((0, max_length), np.int64)
        super().__init__(vocab_size=VOCAB, max_length=max_length, chunk=chunk, remedy="ask for less")

    def _reserve(self, batch_size: int) -> None:
        if batch_size != len(self.cache):
            self.cache = np.zeros((batch_size, self.cache.shape[1]), np.int64)

    def _run(self, tokens: np.ndarray, written: np.ndarray, last: np.ndarray) -> np.ndarray:
        self.runs.append((written.tolist(), last.tolist()))
        assert int(written.max()) + tokens.shape[1] <= self.cache.shape[1]
        logits = np.zeros((len(tokens), VOCAB), np.float32)
        for row, (slot, column) in enumerate(zip(written, last, strict=True)):
            self.cache[row, slot : slot + tokens.shape[1]] = tokens[row]
            logits[row, tokens[row, column]] = 1
        return logits


@pytest.fixture
def session() -> Recorder:
    return Recorder()


def chosen(logits: np.ndarray) -> list[int]:
    return logits.argmax(1).tolist()


def test_a_long_prompt_runs_in_chunks(session):
    assert chosen(session.prefill(np.arange(1, 11)[None])) == [10]
    assert session.runs == [([0], [0]), ([4], [0]), ([8], [1])]
    assert session.cache[0, :10].tolist() == list(range(1, 11))
    assert (session.length, session.batch_size) == (10, 1)


def test_padding_takes_no_slot(session):
    ids = np.array([[9, 9, 1, 2, 3], [4, 5, 6, 7, 8], [9, 1, 9, 9, 9]])
    mask = np.array([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1], [0, 1, 0, 0, 0]])
    assert chosen(session.prefill(ids, mask)) == [3, 8, 1]
    assert session.runs == [([0, 0, 0], [2, 0, 0]), ([3, 4, 1], [0, 0, 0])]
    assert session.length == 5
    assert chosen(session.decode(np.array([11, 12, 13]))) == [11, 12, 13]
    assert session.runs[-1] == ([3, 5, 1], [0, 0, 0])
    assert session.cache[:, :6].tolist()[0][:4] == [1, 2, 3, 11]
    assert session.cache[2, :2].tolist() == [1, 13]


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
        with pytest.raises(ContextLengthError, match=r"1 more tokens behind 16 .* ask for less"):
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
