"""How the comparison drives a session: what it prefills, what it decodes, what it makes of a refusal."""

from __future__ import annotations

import numpy as np
import pytest

from minimind_edge.export.parity.case import Case, layout_of, unpadded
from minimind_edge.export.parity.runner import RunError, SessionRunner
from minimind_edge.runtime.errors import ContextLengthError


class FakeSession:
    """Writes down its calls."""

    def __init__(self) -> None:
        self.calls: list[object] = []

    def experts(self) -> list[object]:
        return []

    def reset(self, batch_size: int = 1) -> None:
        self.calls.append(("reset", batch_size))

    def prefill(self, input_ids: np.ndarray, attention_mask: np.ndarray | None = None) -> np.ndarray:
        mask = None if attention_mask is None else attention_mask.tolist()
        self.calls.append(("prefill", input_ids.tolist(), mask))
        return np.zeros((len(input_ids), 5), np.float32)

    def decode(self, tokens: np.ndarray) -> np.ndarray:
        self.calls.append(("decode", tokens.tolist()))
        return np.zeros((len(tokens), 5), np.float32)


def run(case: Case) -> list[object]:
    session = FakeSession()
    runner = SessionRunner(session)
    runner.reset(len(case.rows), case.slots)
    for chunk in case.chunks():
        assert runner.step(chunk).logits.shape == (len(case.rows), 5)
    return session.calls


def test_a_prompt_is_prefilled_and_single_tokens_are_decoded() -> None:
    assert run(unpadded("chunks", np.array([1, 2, 3, 4]), (2, 1, 1))) == [
        ("reset", 1),
        ("prefill", [[1, 2]], None),
        ("decode", [3]),
        ("decode", [4]),
    ]


def test_a_prompt_of_one_token_is_prefilled() -> None:
    assert run(unpadded("one", np.array([3]))) == [("reset", 1), ("prefill", [[3]], None)]


def test_padding_is_told_by_the_chunks_own_mask() -> None:
    rows = (np.array([1, 2, 3]), np.array([4]))
    _, first, second = run(Case("padded", rows, layout_of([((2, 1), "left"), ((1, 0), "left")]), (2, 1)))
    assert (first[0], first[2]) == ("prefill", [[1, 1], [0, 1]])
    assert (second[0], second[2]) == ("prefill", [[1], [0]])


def test_a_refusal_is_a_difference() -> None:
    class Full(FakeSession):
        def prefill(self, input_ids: np.ndarray, attention_mask: np.ndarray | None = None) -> np.ndarray:
            raise ContextLengthError("no room")

    runner = SessionRunner(Full())
    with pytest.raises(RunError, match="no room"):
        runner.step(next(unpadded("one", np.array([3])).chunks()))
