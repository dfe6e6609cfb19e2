"""The divergence of two sets of logits, token by token: KL divergence, largest difference and margin, in float64."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

ROWS_AT_ONCE = 16
"""The number of rows that are widened to float64 together: 6 MiB for a vocabulary of 49,152."""


@dataclass(frozen=True)
class TokenErrors:
    """The differences of N compared tokens; each array is [N].

    Args:
        max_abs: Largest absolute difference of the token's logits, float64.
        scale: Largest absolute value of the reference's logits, float64.
        kl: KL divergence of the candidate's distribution from the reference's, nats, float64.
        margin: The reference's largest logit minus its second largest, float64.
        expected: The token that the reference finds likeliest, int64.
        found: The token that the candidate finds likeliest, int64.
    """

    max_abs: NDArray[np.float64]
    scale: NDArray[np.float64]
    kl: NDArray[np.float64]
    margin: NDArray[np.float64]
    expected: NDArray[np.int64]
    found: NDArray[np.int64]

    @property
    def agrees(self) -> NDArray[np.bool_]:
        """Whether both choose the same token, [N]."""
        return np.asarray(self.expected == self.found)

    def take(self, chosen: NDArray[np.int64] | NDArray[np.bool_]) -> TokenErrors:
        """The errors of some tokens, chosen by index (in that order) or by flag."""
        return TokenErrors(**{field.name: getattr(self, field.name)[chosen] for field in fields(self)})


def token_errors(reference: Floats, candidate: Floats) -> TokenErrors:
    """Compare logits [N, V] with logits [N, V]; both finite, V at least 1."""
    starts = range(0, len(reference), ROWS_AT_ONCE)
    blocks = (slice(start, start + ROWS_AT_ONCE) for start in starts)
    return joined(_block_errors(reference[rows], candidate[rows]) for rows in blocks)


def joined(parts: Iterable[TokenErrors]) -> TokenErrors:
    """The parts one after the other; empty where there are none."""
    listed = list(parts) or [_block_errors(np.zeros((0, 1)), np.zeros((0, 1)))]
    names = [field.name for field in fields(TokenErrors)]
    return TokenErrors(**{name: np.concatenate([getattr(part, name) for part in listed]) for name in names})


def _block_errors(reference: Floats, candidate: Floats) -> TokenErrors:
    reference, candidate = reference.astype(np.float64), candidate.astype(np.float64)
    return TokenErrors(
        max_abs=np.abs(reference - candidate).max(axis=1),
        scale=np.abs(reference).max(axis=1),
        kl=kl_divergence(reference, candidate),
        margin=margins(reference),
        expected=reference.argmax(axis=1).astype(np.int64),
        found=candidate.argmax(axis=1).astype(np.int64),
    )


def log_softmax(logits: Floats) -> NDArray[np.float64]:
    """The log-probabilities of each row of logits [N, V], in nats."""
    wide = logits.astype(np.float64)
    shifted: NDArray[np.float64] = wide - wide.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def kl_divergence(reference: Floats, candidate: Floats) -> NDArray[np.float64]:
    """The KL divergence of the candidate's softmax distribution from the reference's, row by row.

    Args:
        reference: Logits, [N, V].
        candidate: Logits, [N, V].

    Returns:
        Nats, [N] float64, never negative.

    Source:
        Kullback and Leibler 1951, "On Information and Sufficiency", equation 2.4.
    """
    return kl_of_log_probabilities(log_softmax(reference), log_softmax(candidate))


def kl_of_log_probabilities(expected: NDArray[np.float64], found: NDArray[np.float64]) -> NDArray[np.float64]:
    """`kl_divergence` of distributions whose log-probabilities [N, V] are known; nats, [N]."""
    divergence: NDArray[np.float64] = (np.exp(expected) * (expected - found)).sum(axis=1)
    return divergence.clip(min=0.0)


def margins(logits: Floats) -> NDArray[np.float64]:
    """Each row's largest logit minus its second largest, [N]; 0 where the vocabulary has one entry."""
    if logits.shape[1] < 2:
        return np.zeros(len(logits))
    best = np.partition(logits.astype(np.float64), -2, axis=1)[:, -2:]
    return np.asarray(best[:, 1] - best[:, 0])


def same_sets(reference: NDArray[np.integer], candidate: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Whether rows of chosen experts [N, k] hold the same ones, in whatever order; [N]."""
    return np.asarray((np.sort(reference, axis=1) == np.sort(candidate, axis=1)).all(axis=1))
