"""Temperature, top-k, top-p, min-p and the draw of a token, for many rows of logits at once.

A row's token is the same, bit for bit, alone and among others: sums along a row are taken in an order that neither the
number of rows nor zeros after its tokens can change, and nothing else depends on more than one token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .session.model import Logits, TokenIds

Floats: TypeAlias = NDArray[np.float32]
Doubles: TypeAlias = NDArray[np.float64]
Indices: TypeAlias = NDArray[np.int64]
Mask: TypeAlias = NDArray[np.bool_]

_LOWEST, _LARGEST = float(np.finfo(np.float32).min), float(np.finfo(np.float32).max)
_LEAST_TEMPERATURE = float(np.finfo(np.float32).tiny)
_LEAST_WEIGHT = float(np.finfo(np.float32).smallest_subnormal)
_ALL_TOKENS = 2**31

_BLOCK = 256
"""The length of the blocks that a draw from a whole row is split into."""

_FOLDS, _EXACT_ABOVE = 8, 0.99
"""The number of weights that are added in float32 before float64 takes over, and the top-p above which none are.

Rounding such a sum is an error of about 1e-8, of which only the probability that top-p removes has to be far."""

_FLOORS = (16.0, 4.0, 1.0)
"""The heights of the floors that top-p tries, in units of the one that is certain to be low enough.

A higher floor leaves fewer tokens to sort, and their sum shows whether it was too high."""


class Filter(NamedTuple):
    """The filters of one row, as numbers to compute with.

    Attributes:
        temperature: Divisor of the logits.
        top_k: Number of likeliest tokens to keep, 0 for all.
        top_p: Probability that the kept tokens reach together, 1 for no limit; slightly below the parameter.
        min_p: Least weight of a kept token, 0 for no limit.
    """

    temperature: float
    top_k: int
    top_p: float
    min_p: float

    @classmethod
    def of(cls, temperature: float, top_k: int, top_p: float, min_p: float) -> Filter:
        """The filters that the sampling parameters of the same names ask for."""
        if top_p < 1.0:
            # As in torch, the sum of the removed tokens is at most 1 - top_p where both are rounded to float32.
            removable = np.float32(1.0 - top_p)
            top_p = 1.0 - (float(removable) + float(np.nextafter(removable, np.float32(2.0)))) / 2.0
        return cls(
            temperature=min(max(temperature, _LEAST_TEMPERATURE), _LARGEST),
            top_k=top_k if top_k < _ALL_TOKENS else 0,
            top_p=top_p,
            min_p=max(min_p, _LEAST_WEIGHT) if min_p > 0.0 else 0.0,
        )

    @property
    def group(self) -> tuple[int, bool, bool]:
        """The group of a row: rows of the same group are filtered together."""
        return self.top_k, self.top_p < 1.0, self.min_p > 0.0


@dataclass(frozen=True, eq=False)
class RowFilters:
    """The filters of rows that are sampled together.

    Attributes:
        temperatures: Divisor of each row's logits, `[n, 1]` float32; None where all are 1.
        top_k: Number of likeliest tokens to keep of every row, 0 for all.
        top_p: Probability that each row's kept tokens reach together, `[n, 1]` float64; None where there is no limit.
        min_p: Least weight of a kept token of each row, `[n, 1]` float32; None where there is no limit.
    """

    temperatures: Floats | None
    top_k: int
    top_p: Doubles | None
    min_p: Floats | None

    @classmethod
    def of(cls, rows: Sequence[Filter]) -> RowFilters:
        """Join the filters of rows that belong to the same group."""
        top_k, has_top_p, has_min_p = rows[0].group
        columns = np.array(rows)
        temperatures = columns[:, :1].astype(np.float32)
        return cls(
            temperatures=None if (temperatures == 1.0).all() else temperatures,
            top_k=top_k,
            top_p=columns[:, 2:3] if has_top_p else None,
            min_p=columns[:, 3:].astype(np.float32) if has_min_p else None,
        )

    def removes_tokens(self, vocab_size: int) -> bool:
        """Whether any token may be removed from the vocabulary."""
        return 0 < self.top_k < vocab_size or self.top_p is not None or self.min_p is not None


class Ranked(NamedTuple):
    """The likeliest tokens of some rows. Their order is that of their weights, logits, and ids, the largest first.

    Attributes:
        rows: Indices of the rows, `[n]` int64; None for all.
        ids: Token ids, ascending in each row, `[n, M]` int64; without meaning where the weight is 0.
        weights: Their probabilities times a factor of each row, `[n, M]` float32.
        descending: The same weights in descending order, `[n, M]` float32.
        sums: The sums of `descending` up to each of them, `[n, M]` float64.
        last: Index in `descending` of the last token that the filters keep, `[n]` int64.
    """

    rows: Indices | None
    ids: TokenIds
    weights: Floats
    descending: Floats
    sums: Doubles
    last: Indices

    def select(self, chosen: Indices) -> Ranked:
        """Some of the rows, by their places in these."""
        return Ranked(
            chosen if self.rows is None else self.rows[chosen],
            self.ids[chosen],
            self.weights[chosen],
            self.descending[chosen],
            self.sums[chosen],
            self.last[chosen],
        )


def draw(logits: Logits, largest: Floats, filters: RowFilters, thresholds: Doubles) -> TokenIds:
    """Filter the tokens of each row and draw one, by the inverse of the cumulative distribution.

    The order of the filters is that of transformers: temperature, top-k, top-p, min-p. Tokens are drawn in the order of
    their ids from unfiltered rows, and from the likeliest on in filtered ones.

    Args:
        logits: Logits, `[n, V]` float32, C-contiguous; not changed.
        largest: The largest logit of each row, `[n, 1]` float32, finite.
        filters: The filters of the rows.
        thresholds: A random number for each row, `[n]` float64 from 0 to below 1.

    Returns:
        Token ids, `[n]` int64.
    """
    if not filters.removes_tokens(logits.shape[1]):
        return _draw_in_blocks(_weights(logits, largest, filters.temperatures), thresholds)
    tokens = np.empty(len(logits), dtype=np.int64)
    for part in _filtered(logits, largest, filters):
        if part.rows is None:
            return _draw(part, logits, thresholds)
        tokens[part.rows] = _draw(part, logits, thresholds[part.rows])
    return tokens


def kept_tokens(logits: Logits, largest: Floats, filters: RowFilters) -> tuple[TokenIds, Floats]:
    """The tokens of one row that all filters keep.

    Args:
        logits: Logits, `[1, V]` float32.
        largest: The largest of them, `[1, 1]` float32, finite.
        filters: The filters of the row.

    Returns:
        Token ids, `[N]` int64 ascending, and their weights, `[N]` float32: probabilities times a common factor.
    """
    if not filters.removes_tokens(logits.shape[1]):
        return np.arange(logits.shape[1]), _weights(logits, largest, filters.temperatures)[0]
    (part,) = _filtered(logits, largest, filters)
    ids, weights = part.ids[0], part.weights[0]
    kept = np.sort(_order(weights, logits[0, ids])[: part.last[0] + 1])
    return ids[kept], weights[kept]


def top_k_logits(logits: Logits, top_k: int) -> tuple[TokenIds, Floats]:
    """The k likeliest tokens of each row, and those that are equal to the k-th.

    Args:
        logits: Logits, `[n, V]` float32, C-contiguous, one finite in each row at least.
        top_k: Number of tokens, from 1 to V.

    Returns:
        Token ids, `[n, M]` int64, ascending in each row, and their logits, `[n, M]` float32; where a logit is minus
        infinity, the id has no meaning.
    """
    ids, values, valid = _gather(logits, _below_kth(logits, top_k))
    if valid is not None:
        values[~valid] = -np.inf
    width = values.shape[1]
    if width > top_k:
        values[values < np.sort(values, axis=1)[:, width - top_k, None]] = -np.inf
    return ids, values


def _weights(logits: Logits, largest: Floats, temperatures: Floats | None) -> Floats:
    """Probabilities before they are divided by their sum: 1 for the likeliest token; a new array."""
    # Logits near float32's limits may overflow to minus infinity, which is probability 0.
    with np.errstate(over="ignore"):
        if temperatures is None:
            scores: Floats = logits - largest
        else:
            peaks = largest / temperatures
            if not np.isfinite(peaks).all():
                # Where the quotient overflows float32, the distances from the largest logit are divided instead.
                overflows = np.isinf(peaks)
                logits = logits - np.where(overflows, largest, np.float32(0))
                peaks = np.where(overflows, np.float32(0), peaks)
            scores = logits / temperatures
            scores -= peaks
    return np.exp(scores, out=scores)


def _below_kth(logits: Logits, top_k: int) -> Floats:
    """A finite bound that is not above the k-th largest logit of each row, `[n, 1]`, and not far below it.

    Columns are folded into groups, and the k-th largest of the groups' largest logits is taken: k groups have a logit
    that is not below it. Folding is several times faster than selecting among all logits.
    """
    groups = logits
    while (width := groups.shape[1]) >= 8 * top_k:
        folds = min(8, width // (4 * top_k))
        # Columns that are left over are in no group, which can only lower the bound.
        groups = groups[:, : width - width % folds].reshape(len(groups), folds, -1).max(axis=1)
    bound: Floats = np.sort(groups, axis=1)[:, groups.shape[1] - top_k, None]
    np.maximum(bound, np.float32(_LOWEST), out=bound)
    return bound


def _gather(values: Floats, bound: Floats) -> tuple[TokenIds, Floats, Mask | None]:
    """The columns `[n, M]` int64 and values `[n, M]` float32 that are not below the bound `[n, 1]`, in their order.

    Each row has one at least. Rows with fewer than M are filled up at their end with others, where the mask `[n, M]` is
    false; it is None where there are no such rows.
    """
    count, width = values.shape
    flat = np.flatnonzero(values >= bound)
    if count == 1:
        return flat[None], values[0].take(flat)[None], None
    firsts = np.arange(0, (count + 1) * width, width)
    starts = flat.searchsorted(firsts)
    lengths = starts[1:] - starts[:-1]
    places = np.arange(lengths.max())
    chosen = flat.take(starts[:-1, None] + places, mode="clip")
    return chosen - firsts[:-1, None], values.ravel().take(chosen), places < lengths[:, None]


def _filtered(logits: Logits, largest: Floats, filters: RowFilters) -> list[Ranked]:
    """The tokens that all filters keep, some of which are filters; each row is in one of the parts.

    Top-k compares the logits before the temperature divides them, which is the same unless rounding makes two equal.
    """
    if 0 < filters.top_k < logits.shape[1]:
        ids, logits = top_k_logits(logits, filters.top_k)
        part = _ranked(ids, _weights(logits, largest, filters.temperatures), (logits > -np.inf).sum(axis=1) - 1)
        if filters.top_p is not None:
            part, _ = _top_p(part, part.sums[:, -1:] * filters.top_p)
        parts = [part]
    else:
        weights = _weights(logits, largest, filters.temperatures)
        if filters.top_p is None:
            assert filters.min_p is not None
            return [_listed(weights, filters.min_p)]
        parts = _whole_top_p(weights, filters.top_p)
    return parts if filters.min_p is None else [_min_p(part, filters.min_p) for part in parts]


def _whole_top_p(weights: Floats, top_p: Doubles) -> list[Ranked]:
    """Top-p of whole rows."""
    totals = _totals(weights, top_p)
    targets = totals * top_p
    # All tokens below this floor are removed together, so only the others need sorting.
    floor = (1.0 - top_p) * totals * (0.999 / weights.shape[1])
    rows: Indices | None = None
    parts = []
    for height in _FLOORS:
        bound = np.minimum(height * floor, 1.0).astype(np.float32)
        part, complete = _top_p(_listed(weights, bound)._replace(rows=rows), targets)
        if complete.all() or height == _FLOORS[-1]:
            break
        if complete.any():
            parts.append(part.select(np.flatnonzero(complete)))
        rest = np.flatnonzero(~complete)
        weights, floor, targets = weights[rest], floor[rest], targets[rest]
        rows = rest if rows is None else rows[rest]
    return [*parts, part]


def _totals(weights: Floats, top_p: Doubles) -> Doubles:
    """The sum of each row, `[n, 1]`, accurate enough for the tokens that top-p leaves out of it."""
    if weights.shape[1] % _FOLDS:
        exact: Doubles = weights.astype(np.float64).sum(axis=1, keepdims=True)
        return exact
    folded = weights.reshape(len(weights), _FOLDS, -1).sum(axis=1)
    totals: Doubles = folded.astype(np.float64).sum(axis=1, keepdims=True)
    close = np.flatnonzero(top_p > _EXACT_ABOVE)
    if close.size:
        totals[close] = weights[close].astype(np.float64).sum(axis=1, keepdims=True)
    return totals


def _listed(weights: Floats, floor: Floats) -> Ranked:
    """The tokens whose weights are not below a floor, `[n, 1]`."""
    ids, listed, valid = _gather(weights, floor)
    if valid is None:
        return _ranked(ids, listed, np.array([listed.shape[1] - 1]))
    return _ranked(ids, listed * valid, valid.sum(axis=1) - 1)


def _ranked(ids: TokenIds, weights: Floats, last: Indices) -> Ranked:
    descending = np.sort(weights, axis=1)[:, ::-1]
    # Sums are taken in sequence, so that zeros after a row do not change them.
    return Ranked(None, ids, weights, descending, np.cumsum(descending, axis=1, dtype=np.float64), last)


def _top_p(part: Ranked, targets: Doubles) -> tuple[Ranked, Mask]:
    """Keep the likeliest tokens of each row until they reach a sum of weights, `[n, 1]`, one at least.

    Returns:
        The tokens that stay; whether they reach the sum, `[n]` bool.
    """
    reached = part.sums >= targets
    complete = reached[:, -1].copy()
    reached[:, -1] = True
    return part._replace(last=np.minimum(part.last, reached.argmax(axis=1))), complete


def _min_p(part: Ranked, min_p: Floats) -> Ranked:
    """Keep the tokens whose weight is not below a fraction of the largest one's, which is 1."""
    least = min_p if part.rows is None else min_p[part.rows]
    return part._replace(last=np.minimum(part.last, (part.descending >= least).sum(axis=1) - 1))


def _draw(part: Ranked, logits: Logits, thresholds: Doubles) -> TokenIds:
    rows = np.arange(len(thresholds))
    totals = part.sums[rows, part.last]
    ranks = _first_above(part.sums, thresholds * totals, totals)
    drawn = part.weights == part.descending[rows, ranks][:, None]
    columns = drawn.argmax(axis=1)
    if np.count_nonzero(drawn) > len(rows):
        for row in np.flatnonzero(drawn.sum(axis=1) > 1):
            listed = np.flatnonzero(part.weights[row])
            source = row if part.rows is None else part.rows[row]
            order = _order(part.weights[row, listed], logits[source, part.ids[row, listed]])
            columns[row] = listed[order[ranks[row]]]
    tokens: TokenIds = part.ids[rows, columns]
    return tokens


def _order(weights: Floats, logits: Logits) -> Indices:
    """The places of one row's tokens by weight, logit and id, the largest first, `[N]`."""
    return np.lexsort((logits, weights))[::-1]


def _draw_in_blocks(weights: Floats, thresholds: Doubles) -> TokenIds:
    """Draw from whole rows: first the block that the threshold falls into, then the token in it."""
    missing = -weights.shape[1] % _BLOCK
    blocks = (np.pad(weights, ((0, 0), (0, missing))) if missing else weights).reshape(len(weights), -1, _BLOCK)
    sums = np.cumsum(blocks.sum(axis=2), axis=1, dtype=np.float64)
    targets = thresholds * sums[:, -1]
    chosen = _first_above(sums, targets, sums[:, -1])
    rows = np.arange(len(weights))
    sums_before = np.where(chosen > 0, sums[rows, chosen - 1], 0.0)
    sums = np.cumsum(blocks[rows, chosen], axis=1, dtype=np.float64)
    tokens: TokenIds = chosen * _BLOCK + _first_above(sums, targets - sums_before, sums[:, -1])
    return tokens


def _first_above(sums: Doubles, targets: Doubles, totals: Doubles) -> Indices:
    """The first column of each row whose sum is above the target, `[n]`; totals are the sums of what may be drawn.

    Where rounding has made the target as large as the total, it is the last token with a weight.
    """
    below = np.minimum(targets, np.nextafter(totals, 0.0))
    first: Indices = (sums > below[:, None]).argmax(axis=1)
    return first
