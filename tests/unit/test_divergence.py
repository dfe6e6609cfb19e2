"""Divergence, margins and sets of experts, by numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from minimind_edge.export.divergence import joined, kl_divergence, log_softmax, margins, same_sets, token_errors


def test_kl_of_known_distributions() -> None:
    # (1/2, 1/2) against (1/4, 3/4): 1/2 ln 2 + 1/2 ln 2/3 = 1/2 ln 4/3
    reference = np.log(np.array([[0.5, 0.5]]))
    candidate = np.log(np.array([[0.25, 0.75]]))
    assert kl_divergence(reference, candidate) == pytest.approx([0.5 * math.log(4 / 3)], rel=1e-12)


def test_kl_is_not_symmetric() -> None:
    # the other way round: 1/4 ln 1/2 + 3/4 ln 3/2
    reference = np.log(np.array([[0.25, 0.75]]))
    candidate = np.log(np.array([[0.5, 0.5]]))
    assert kl_divergence(reference, candidate) == pytest.approx(
        [0.25 * math.log(0.5) + 0.75 * math.log(1.5)], rel=1e-12
    )


def test_kl_ignores_a_constant_and_is_never_negative() -> None:
    logits = np.array([[1.0, -2.0, 3.0], [0.0, 0.0, 0.0]])
    divergence = kl_divergence(logits, logits + 7.0)
    assert (divergence >= 0.0).all()
    assert divergence == pytest.approx([0.0, 0.0], abs=1e-15)


def test_log_softmax_of_large_logits_does_not_overflow() -> None:
    # softmax (1000, 1000 + ln 3) = (1/4, 3/4)
    found = log_softmax(np.array([[1000.0, 1000.0 + math.log(3)]]))
    assert found[0] == pytest.approx([math.log(0.25), math.log(0.75)], rel=1e-9)


def test_margin_is_best_less_second_best() -> None:
    assert margins(np.array([[1.0, 5.0, 3.5], [2.0, 2.0, -1.0]])).tolist() == [1.5, 0.0]


def test_margin_of_a_vocabulary_of_one() -> None:
    assert margins(np.array([[4.0]])).tolist() == [0.0]


def test_token_errors_of_a_flip() -> None:
    errors = token_errors(np.float32([[1.0, 2.0, -4.0]]), np.float32([[2.5, 2.0, -4.0]]))
    assert errors.max_abs.tolist() == [1.5]
    assert errors.scale.tolist() == [4.0]
    assert errors.margin.tolist() == [1.0]
    assert (errors.expected.tolist(), errors.found.tolist(), errors.agrees.tolist()) == ([1], [0], [False])


def test_token_errors_go_on_past_a_block() -> None:
    reference = np.zeros((40, 3), np.float32)
    candidate = reference.copy()
    candidate[37, 1] = 2.0
    errors = token_errors(reference, candidate)
    assert len(errors.kl) == 40
    assert errors.max_abs.nonzero()[0].tolist() == [37]


def test_nothing_joined_is_empty() -> None:
    assert len(joined(()).kl) == 0


def test_experts_are_compared_as_sets() -> None:
    reference = np.array([[0, 3], [1, 2], [1, 2]])
    candidate = np.array([[3, 0], [1, 2], [1, 3]])
    assert same_sets(reference, candidate).tolist() == [True, True, False]
