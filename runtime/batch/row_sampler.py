"""Sampling for the rows of a batch, each with its own parameters, history, random generator and constraint."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import EdgeError, UsageError
from ..sampling import TokenHistory, broken_logits
from ..session.model import Logits, TokenIds
from ..token_filters import Floats, RowFilters, draw, top_k_logits
from .request import BatchRequest, TokenLogprobs

Active: TypeAlias = Mapping[int, "RowSampler"]
Failures: TypeAlias = dict[int, EdgeError]

NO_TOKEN = -1
"""The token id of a row for which no token could be chosen."""


class SampledToken(NamedTuple):
    """The token that was chosen for one row.

    Attributes:
        token_id: Token id; `NO_TOKEN` with an error.
        logprobs: Its log probabilities, where the request asks for them.
        is_last: Whether the constraint says that the answer is complete with it.
        error: The reason why no token could be chosen, which ends the answer.
    """

    token_id: int
    logprobs: TokenLogprobs | None = None
    is_last: bool = False
    error: EdgeError | None = None


class RowSampler:
    """The sampling state of one answer: its parameters, its history and its random generator.

    Its tokens are those that `Sampler` chooses for the prompt alone, with the same parameters, seed and logits.

    Attributes:
        top_logprobs: Number of likeliest tokens with log probabilities, None for no log probabilities.
        constraint: Rule that the answer keeps.
        filter: The filters of its tokens.
        group: The group of rows that it is filtered with, None for greedy decoding.
        processors: The logits processors, in their order.
        history: The tokens so far, None where no processor needs them.
        random: The random generator, None for greedy decoding.

    Args:
        request: The request.
        vocab_size: Number of token ids of the model.

    Raises:
        UsageError: The request gives a bias to a token that the model does not have.
    """

    def __init__(self, request: BatchRequest, vocab_size: int) -> None:
        params = request.params
        params.check_vocabulary(vocab_size)
        self.top_logprobs = request.top_logprobs
        self.constraint = request.constraint
        self.filter = params.filter
        self.group = None if params.is_greedy else self.filter.group
        # An answer that has to keep a rule is not forced to end in the middle of it.
        self.processors = params.processors(None if request.constraint else request.max_new_tokens)
        self.history = TokenHistory(vocab_size, request.prompt.token_ids) if self.processors else None
        self.random = None if params.is_greedy else np.random.default_rng(params.seed)

    @property
    def changes_logits(self) -> bool:
        """Whether anything happens to the logits before the filters."""
        return bool(self.processors) or self.constraint is not None

    def process(self, scores: NDArray[np.float32]) -> None:
        """Apply the constraint and the logits processors to `[V]` logits, in place.

        Raises:
            UsageError: No token is allowed.
            EdgeError: The constraint failed.
        """
        allowed = None if self.constraint is None else self.constraint.allowed()
        if allowed is not None:
            scores[~allowed] = -math.inf
        if self.history is not None:
            for process in self.processors:
                process(scores, self.history)
        if allowed is not None and not scores.max() > -math.inf:
            raise UsageError("the answer cannot go on: its grammar and the other rules leave no token to choose")


def sample_rows(logits: Logits, rows: Sequence[RowSampler | None]) -> list[SampledToken | None]:
    """Choose the next token of every row.

    A row that cannot go on gets an error of its own and changes nothing for the others.

    Args:
        logits: Next-token logits, `[n, V]` float32; not changed.
        rows: The sampling state of each row, which is brought up to date; None for an idle row.

    Returns:
        The token of each row; None for an idle row.
    """
    active = {row: sampler for row, sampler in enumerate(rows) if sampler is not None}
    logits = np.ascontiguousarray(logits)
    tokens, largest = _likeliest(logits)
    failed = _without_distribution(largest, active)
    scores = _processed(logits, active, failed)
    if scores is not logits:
        tokens, largest = _likeliest(scores)
        failed = _without_distribution(largest, active) | failed
    _draw(scores, largest, tokens, active, failed)
    logprobs = _logprobs(logits, tokens, active, failed)
    chosen: list[SampledToken | None] = [None] * len(rows)
    token_ids = tokens.tolist()
    for row, sampler in active.items():
        if row in failed:
            chosen[row] = SampledToken(NO_TOKEN, error=failed[row])
        else:
            chosen[row] = _taken(sampler, token_ids[row], logprobs.get(row))
    return chosen


def _likeliest(scores: Logits) -> tuple[TokenIds, Floats]:
    """The likeliest token of each row, `[n]` int64, and its logit, `[n]` float32: NaN if the row has one."""
    tokens = scores.argmax(axis=1)
    return tokens, scores[np.arange(len(scores)), tokens]


def _without_distribution(largest: Floats, active: Active) -> Failures:
    """The rows whose largest logit is not a finite number."""
    broken = ~np.isfinite(largest)
    return {row: broken_logits() for row in np.flatnonzero(broken).tolist() if row in active} if broken.any() else {}


def _processed(logits: Logits, active: Active, failed: Failures) -> Logits:
    """The logits after constraints and logits processors, a copy if there are any; adds to the rows that failed."""
    changed = [row for row, sampler in active.items() if sampler.changes_logits and row not in failed]
    if not changed:
        return logits
    scores: Logits = logits.copy()
    with np.errstate(over="ignore"):
        for row in changed:
            try:
                active[row].process(scores[row])
            except EdgeError as error:
                failed[row] = error
    return scores


def _draw(scores: Logits, largest: Floats, tokens: TokenIds, active: Active, failed: Failures) -> None:
    """Replace the likeliest tokens by drawn ones in the rows that are sampled, group by group."""
    groups: defaultdict[Hashable, list[int]] = defaultdict(list)
    for row, sampler in active.items():
        if sampler.group is not None and row not in failed:
            groups[sampler.group].append(row)
    for members in groups.values():
        samplers = [active[row] for row in members]
        filters = RowFilters.of([sampler.filter for sampler in samplers])
        thresholds = np.array([sampler.random.random() for sampler in samplers if sampler.random is not None])
        if len(members) == len(scores):
            tokens[:] = draw(scores, largest[:, None], filters, thresholds)
        else:
            tokens[members] = draw(scores[members], largest[members, None], filters, thresholds)


def _logprobs(logits: Logits, tokens: TokenIds, active: Active, failed: Failures) -> dict[int, TokenLogprobs]:
    """The log probabilities of the rows that ask for them."""
    wanted = {
        row: sampler.top_logprobs
        for row, sampler in active.items()
        if sampler.top_logprobs is not None and row not in failed
    }
    if not wanted:
        return {}
    rows = list(wanted)
    scores = logits if len(rows) == len(logits) else logits[rows]
    largest, sums = _log_sums(scores)
    chosen = scores[np.arange(len(rows)), tokens[rows]] - largest - sums
    top: list[list[tuple[int, float]]] = [[]] * len(rows)
    if most := min(max(wanted.values()), scores.shape[1]):
        ids, values = top_k_logits(scores, most)
        order = np.argsort(-values, axis=1, kind="stable")[:, :most]
        likeliest = np.take_along_axis(ids, order, axis=1).tolist()
        values = np.take_along_axis(values, order, axis=1) - largest[:, None] - sums[:, None]
        top = [_pairs(*each) for each in zip(likeliest, values.tolist(), strict=True)]
    found = zip(rows, tokens[rows].tolist(), chosen.tolist(), top, strict=True)
    return {row: TokenLogprobs(token, logprob, tuple(pairs[: wanted[row]])) for row, token, logprob, pairs in found}


def _log_sums(logits: Logits) -> tuple[Floats, Floats]:
    """The largest logit of each row, `[n]`, and the logarithm of the sum of exponentials of the distances from it."""
    largest: Floats = logits.max(axis=1)
    with np.errstate(over="ignore"):
        return largest, np.log(np.exp(logits - largest[:, None]).sum(axis=1))


def _pairs(ids: list[int], logprobs: list[float]) -> list[tuple[int, float]]:
    return [(token, logprob) for token, logprob in zip(ids, logprobs, strict=True) if logprob > -math.inf]


def _taken(sampler: RowSampler, token_id: int, logprobs: TokenLogprobs | None) -> SampledToken:
    """Bring a row's state up to date."""
    if sampler.history is not None:
        sampler.history.add(token_id)
    if sampler.constraint is None:
        return SampledToken(token_id, logprobs)
    try:
        return SampledToken(token_id, logprobs, sampler.constraint.accept(token_id))
    except EdgeError as error:
        return SampledToken(NO_TOKEN, error=error)
