"""How well a model predicts text, and how far its predictions are from another model's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..divergence import kl_of_log_probabilities, log_softmax
from ..errors import ExportError
from ..progress import Share
from .examples import BATCH_SIZE, Batch, Example, batches

if TYPE_CHECKING:
    from minimind_edge.minimind import MiniMindForCausalLM
    from minimind_edge.runtime.session.model import TokenIds
    from minimind_edge.runtime.session.session import Session

CHUNK_BYTES = 32 << 20
"""The most memory for the logits of one call, in bytes."""

BLOCK_NUMBERS = 1 << 20
"""How many logits are converted to float64 together."""


class LanguageModel(Protocol):
    """Anything that gives logits for every token of a row: a session, or the model itself."""

    @property
    def vocab_size(self) -> int:
        """The number of token ids, V."""
        ...

    def start(self, batch_size: int) -> None:
        """Forget everything and begin `batch_size` new rows."""
        ...

    def extend(self, tokens: TokenIds) -> NDArray[np.float32]:
        """Give every row its next tokens.

        Args:
            tokens: [B, k] int64, k at least 1.

        Returns:
            The logits of what follows each token, [B, k, V] float32; valid until the next call.
        """
        ...


class SessionLanguageModel:
    """A graph or plan, run by a session as users run it.

    Args:
        session: The session.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    @property
    def vocab_size(self) -> int:
        """See `LanguageModel.vocab_size`."""
        return self._session.vocab_size

    def start(self, batch_size: int) -> None:
        """See `LanguageModel.start`."""
        self._session.reset(batch_size)

    def extend(self, tokens: TokenIds) -> NDArray[np.float32]:
        """See `LanguageModel.extend`."""
        if self._session.gives_all_logits:
            return self._session.forward(tokens)
        return np.stack([self._session.decode(column).copy() for column in tokens.T], axis=1)


class EagerLanguageModel:
    """The eager PyTorch model.

    Args:
        model: The model, in float32 and in evaluation mode.
    """

    def __init__(self, model: MiniMindForCausalLM) -> None:
        self._model = model
        self._past: Any = None

    @property
    def vocab_size(self) -> int:
        """See `LanguageModel.vocab_size`."""
        return int(self._model.config.vocab_size)

    def start(self, batch_size: int) -> None:
        """See `LanguageModel.start`."""
        self._past = None

    def extend(self, tokens: TokenIds) -> NDArray[np.float32]:
        """See `LanguageModel.extend`."""
        import torch

        with torch.inference_mode():
            ids = torch.from_numpy(np.ascontiguousarray(tokens))
            output = self._model(input_ids=ids, past_key_values=self._past, use_cache=True)
        self._past = output.past_key_values
        return np.asarray(output.logits.float().numpy())


@dataclass(frozen=True)
class Likelihood:
    """How well all predicted tokens were predicted.

    Args:
        tokens: The number of predicted tokens, at least 1.
        perplexity: exp of the mean negative log-likelihood, nats per token.
        reference_perplexity: The reference's perplexity; None without a reference, as are the next two.
        mean_kl: The mean KL divergence from the reference's distribution, nats per token.
        top1_agreement: The share of tokens where both find the same one likeliest, 0 to 1.
    """

    tokens: int
    perplexity: float
    reference_perplexity: float | None = None
    mean_kl: float | None = None
    top1_agreement: float | None = None


def measure_likelihood(
    examples: Sequence[Example],
    candidate: LanguageModel,
    reference: LanguageModel | None = None,
    *,
    batch_size: int = BATCH_SIZE,
    progress: Share = lambda done: None,
) -> Likelihood:
    """Have one model, or two, predict the same examples.

    Args:
        examples: At least one.
        candidate: The model that is measured.
        reference: The model that it is compared with, of the same vocabulary.
        batch_size: The most examples of a batch.
        progress: Called with the share that is done.

    Raises:
        ExportError: Logits are not finite: there is nothing to measure.
    """
    losses: list[Losses] = []
    done, total = 0, sum(len(example.token_ids) for example in examples)
    for batch in batches(examples, batch_size):
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
    """The losses of N predicted tokens; each array is [N], the last three are empty without a reference.

    Args:
        loss: Negative log-likelihood of the token, nats.
        reference_loss: The reference's negative log-likelihood of the token, nats.
        divergence: The KL divergence from the reference's distribution, nats.
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
    """The losses of predictions, by the tokens that came.

    Args:
        candidate: The candidate's logits, [N, V].
        reference: The reference's logits, [N, V]; None without a reference.
        tokens: The tokens that came, [N].
    """
    index = np.arange(len(tokens))
    found = log_softmax(candidate)
    loss = -found[index, tokens]
    if reference is None:
        nothing = np.zeros(0)
        return Losses(loss, nothing, nothing, np.zeros(0, np.bool_))
    expected = log_softmax(reference)
    divergence = kl_of_log_probabilities(expected, found)
    agrees = expected.argmax(axis=1) == found.argmax(axis=1)
    return Losses(loss, -expected[index, tokens], divergence, agrees)


def _require_finite(whose: str, losses: NDArray[np.float64]) -> None:
    broken = int(np.count_nonzero(~np.isfinite(losses)))
    if broken:
        raise ExportError(
            f"{whose} gives logits that are not finite for {broken} of {len(losses)} tokens: its numbers overflow, "
            "export it in fp32"
        )


def _batch_losses(batch: Batch, candidate: LanguageModel, reference: LanguageModel | None) -> list[Losses]:
    """The losses of a batch, a few columns at a time: logits of whole rows would take too much memory."""
    rows, width = batch.token_ids.shape
    step = max(1, CHUNK_BYTES // (4 * rows * candidate.vocab_size))
    block = max(1, BLOCK_NUMBERS // candidate.vocab_size)
    for model in filter(None, (candidate, reference)):
        model.start(rows)
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
