"""How well text is predicted, and how far two models' predictions of it are apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..divergence import log_softmax
from ..errors import ExportError
from .predictor import Predictor
from .row import ROWS, Batch, Row, batches

CHUNK_BYTES = 32 << 20
"""Most memory for the logits of one call."""

BLOCK_NUMBERS = 1 << 20
"""Logits that are widened to float64 together."""


@dataclass(frozen=True)
class Likelihood:
    """What was measured over all predicted tokens.

    Args:
        tokens: How many, at least 1.
        perplexity: exp of the mean negative log-likelihood, nats a token.
        reference_perplexity: The reference's; None without one, as the rest.
        mean_kl: KL divergence from the reference's distribution, nats, the mean.
        top1_agreement: Share of tokens where both find the same one likeliest.
    """

    tokens: int
    perplexity: float
    reference_perplexity: float | None = None
    mean_kl: float | None = None
    top1_agreement: float | None = None


def measure_likelihood(
    rows: Sequence[Row],
    candidate: Predictor,
    reference: Predictor | None = None,
    *,
    most_rows: int = ROWS,
    progress: Callable[[float], None] = lambda done: None,
) -> Likelihood:
    """Have one model or two predict the same rows.

    Args:
        rows: At least one.
        candidate: What is measured.
        reference: What it is compared with; of the same vocabulary.
        most_rows: Rows of a batch.
        progress: Called with the share that is done.

    Raises:
        ExportError: Logits are not finite: there is nothing to measure.
    """
    losses: list[Losses] = []
    done, total = 0, sum(len(row.token_ids) for row in rows)
    for batch in batches(rows, most_rows):
        losses.extend(_batch_losses(batch, candidate, reference))
        done += int(batch.lengths.sum())
        progress(done / total)
    loss = np.concatenate([each.loss for each in losses])
    _require_finite("the artifact", loss)
    perplexity = float(np.exp(loss.mean()))
    if reference is None:
        return Likelihood(len(loss), perplexity)
    _require_finite("the reference", np.concatenate([each.reference_loss for each in losses]))
    means = {name: float(np.concatenate([getattr(each, name) for each in losses]).mean()) for name in REFERENCE_LOSSES}
    return Likelihood(
        len(loss), perplexity, float(np.exp(means["reference_loss"])), means["divergence"], means["agrees"]
    )


@dataclass(frozen=True)
class Losses:
    """One entry a predicted token, each array [N]; the last three are empty without a reference.

    Args:
        loss: Negative log-likelihood of the token, nats.
        reference_loss: The reference's.
        divergence: KL(reference || candidate), nats.
        agrees: Whether both find the same token likeliest.
    """

    loss: NDArray[np.float64]
    reference_loss: NDArray[np.float64]
    divergence: NDArray[np.float64]
    agrees: NDArray[np.bool_]


REFERENCE_LOSSES = ("reference_loss", "divergence", "agrees")


def token_losses(
    candidate: NDArray[np.floating], reference: NDArray[np.floating] | None, tokens: NDArray[np.int64]
) -> Losses:
    """Judge predictions by the tokens that came.

    Args:
        candidate: Logits, [N, V].
        reference: Logits, [N, V], None without a reference.
        tokens: [N].

    Source:
        Kullback and Leibler 1951, "On Information and Sufficiency", equation 2.4.
    """
    index = np.arange(len(tokens))
    found = log_softmax(candidate)
    loss = -found[index, tokens]
    if reference is None:
        nothing = np.zeros(0)
        return Losses(loss, nothing, nothing, np.zeros(0, np.bool_))
    expected = log_softmax(reference)
    divergence = (np.exp(expected) * (expected - found)).sum(axis=1).clip(min=0.0)
    agrees = expected.argmax(axis=1) == found.argmax(axis=1)
    return Losses(loss, -expected[index, tokens], divergence, agrees)


def _require_finite(whose: str, losses: NDArray[np.float64]) -> None:
    broken = int(np.count_nonzero(~np.isfinite(losses)))
    if broken:
        raise ExportError(
            f"{whose} gives logits that are not finite for {broken} of {len(losses)} tokens: its numbers overflow, "
            "export it in fp32"
        )


def _batch_losses(batch: Batch, candidate: Predictor, reference: Predictor | None) -> list[Losses]:
    """The losses of a batch, a few columns at a time: logits of whole rows would take too much memory."""
    rows, width = batch.token_ids.shape
    step = max(1, CHUNK_BYTES // (4 * rows * candidate.vocab_size))
    block = max(1, BLOCK_NUMBERS // candidate.vocab_size)
    for predictor in filter(None, (candidate, reference)):
        predictor.start(rows)
    losses = []
    for start in range(0, width - 1, step):
        stop = min(start + step, width - 1)
        shown, due = batch.token_ids[:, start:stop], batch.predicted[:, start + 1 : stop + 1]
        tokens = batch.token_ids[:, start + 1 : stop + 1][due]
        found = candidate.extend(shown)[due]
        expected = None if reference is None else reference.extend(shown)[due]
        for first in range(0, len(tokens), block):
            part = slice(first, first + block)
            losses.append(token_losses(found[part], None if expected is None else expected[part], tokens[part]))
    return losses
