"""Temperature, top-k, top-p, min-p and the draw of a token, for many rows of logits at once.

A row's token is the same, bit for bit, alone and among others: sums along a row are taken in an order that neither the
number of rows nor zeros between and after its tokens can change, and nothing else depends on more than one token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .session.model import Logits, TokenIds

Floats: TypeAlias = NDArray[np.float32]
Doubles: TypeAlias = NDArray[np.float64]
Indices: TypeAlias = NDArray[np.int64]
Mask: TypeAlias = NDArray[np.bool_]

_LOWEST, _LARGEST = float(np.finfo(np.float32).min), float(np.finfo(np.float32).max)
_LEAST_TEMPERATURE = float(np.finfo(np.float32).tiny)

_BLOCK = 256
"""The length of the blocks that a draw from a whole row is split into."""

_FIRST_FLOOR = 8.0
"""The height of the floor that top-p tries first, in units of the floor that is certain to be low enough."""


class Filter(Protocol):
    """The sampling parameters of one row that filter its tokens, as `SamplingParams` has them."""

    @property
    def temperature(self) -> float:
        """Divisor of the logits, above 0."""

    @property
    def top_k(self) -> int:
        """Number of likeliest tokens to keep, 0 for all."""

    @property
    def top_p(self) -> float:
        """Probability that the kept likeliest tokens reach together."""

    @property
    def min_p(self) -> float:
        """Least probability of a kept token as a fraction of the likeliest one's."""


@dataclass(frozen=True, eq=False)
class RowFilters:
    """The filters of rows that are sampled together.

    Attributes:
        temperatures: Divisor of each row's logits, `[n, 1]` float32; None where all are 1.
        top_k: Number of likeliest tokens to keep of every row, 0 for all.
        top_p: Probability that each row's kept tokens reach together, `[n, 1]` float64; None where all are 1.
        min_p: Least weight of a kept token of each row, `[n, 1]` float32; None where all are 0.
    """

    temperatures: Floats | None
    top_k: int
    top_p: Doubles | None
    min_p: Floats | None

    @staticmethod
    def group(row: Filter) -> tuple[int, bool, bool]:
        """The group of a row: only rows of the same group can be filtered together."""
        return row.top_k, row.top_p < 1.0, row.min_p > 0.0

    @classmethod
    def of(cls, rows: Sequence[Filter]) -> RowFilters:
        """The filters of rows of the same group.

        Args:
            rows: The sampling parameters of each row.
        """
        top_k, has_top_p, has_min_p = cls.group(rows[0])
        temperatures = [min(max(row.temperature, _LEAST_TEMPERATURE), _LARGEST) for row in rows]
        return cls(
            temperatures=None if all(each == 1.0 for each in temperatures) else _column(temperatures),
            top_k=top_k,
            top_p=_reached([row.top_p for row in rows]) if has_top_p else None,
            min_p=_column([row.min_p for row in rows]) if has_min_p else None,
        )


class Candidates(NamedTuple):
    """The tokens of some rows that may be drawn.

    Attributes:
        rows: Indices of the rows, `[n]` int64; None for all.
        ids: Token ids, ascending in each row, `[n, M]` int64; None where column `i` is token `i`.
        weights: Their probabilities times a factor of each row, `[n, M]` float32; 0 where `kept` is false.
        kept: Whether a token was kept by all filters, `[n, M]` bool; None where all were.
    """

    rows: Indices | None
    ids: TokenIds | None
    weights: Floats
    kept: Mask | None

    def of_rows(self, rows: Indices) -> Candidates:
        """The candidates of some of the rows, where these are of all."""
        ids = None if self.ids is None else self.ids[rows]
        return Candidates(rows, ids, self.weights[rows], None if self.kept is None else self.kept[rows])


def filtered(logits: Logits, largest: Floats, filters: RowFilters) -> list[Candidates]:
    """Apply the filters in the order of transformers: temperature, top-k, top-p, min-p.

    Top-k compares the logits before the temperature divides them, which is the same unless rounding makes two equal.

    Args:
        logits: Logits, `[n, V]` float32, C-contiguous; not changed.
        largest: The largest logit of each row, `[n, 1]` float32, finite.
        filters: The filters of the rows.

    Returns:
        The tokens that all filters keep; each row is in one of the parts.
    """
    if 0 < filters.top_k < logits.shape[1]:
        ids, logits = top_k_logits(logits, filters.top_k)
        weights = _weights(logits, largest, filters.temperatures)
        kept = logits > -np.inf if filters.top_p is None else _top_p(weights, None, filters.top_p, logits, None)[0]
        return _min_p([_kept(ids, weights, kept)], filters.min_p)
    weights = _weights(logits, largest, filters.temperatures)
    if filters.top_p is not None:
        return _min_p(_likeliest(weights, logits, filters.top_p), filters.min_p)
    if filters.min_p is not None:
        return [_kept(*_gather(weights, filters.min_p))]
    return [Candidates(None, None, weights, None)]


def draw(logits: Logits, largest: Floats, filters: RowFilters, thresholds: Doubles) -> TokenIds:
    """Draw a token from each row, by the inverse of its cumulative distribution in the order of token ids.

    Args:
        logits: Logits, `[n, V]` float32, C-contiguous; not changed.
        largest: The largest logit of each row, `[n, 1]` float32, finite.
        filters: The filters of the rows.
        thresholds: A random number for each row, `[n]` float64 from 0 to below 1.

    Returns:
        Token ids, `[n]` int64.
    """
    parts = filtered(logits, largest, filters)
    if parts[0].rows is None:
        return _draw(parts[0], thresholds)
    tokens = np.empty(len(logits), dtype=np.int64)
    for part in parts:
        tokens[part.rows] = _draw(part, thresholds[part.rows])
    return tokens


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
    return np.maximum(bound, np.float32(_LOWEST))


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


def _likeliest(weights: Floats, logits: Logits, top_p: Doubles) -> list[Candidates]:
    """Top-p of whole rows."""
    totals = weights.astype(np.float64).sum(axis=1)[:, None]
    # All tokens below this floor are removed together, so only the others need sorting.
    floor = (1.0 - top_p) * totals * (0.999 / weights.shape[1])
    # A higher floor leaves fewer to sort, and their sum shows whether it was too high.
    part, complete = _above_floor(weights, logits, np.minimum(_FIRST_FLOOR * floor, 1.0), totals, top_p)
    if complete.all():
        return [part]
    done, rest = np.flatnonzero(complete), np.flatnonzero(~complete)
    if not done.size:
        return [_above_floor(weights, logits, floor, totals, top_p)[0]]
    second, _ = _above_floor(weights[rest], logits[rest], floor[rest], totals[rest], top_p[rest])
    return [part.of_rows(done), second._replace(rows=rest)]


def _above_floor(
    weights: Floats, logits: Logits, floor: Doubles, totals: Doubles, top_p: Doubles
) -> tuple[Candidates, Mask]:
    """Top-p among the tokens whose weight is not below a floor, and whether they reach it in each row, `[n]`."""
    ids, listed, valid = _gather(weights, floor.astype(np.float32))
    if valid is not None:
        listed *= valid
    kept, complete = _top_p(listed, totals, top_p, logits, ids)
    return _kept(ids, listed, kept), complete


def _top_p(
    weights: Floats, totals: Doubles | None, top_p: Doubles, logits: Logits, ids: TokenIds | None
) -> tuple[Mask, Mask]:
    """Keep the likeliest tokens of each row until they reach top-p together, one at least.

    Of equal ones at the border, the later ones stay.

    Args:
        weights: Weights of the likeliest tokens of each row in the order of their ids, `[n, M]` float32.
        totals: Sum of all weights of each row, `[n, 1]` float64; None where `weights` holds them all.
        top_p: As in `RowFilters`.
        logits: Logits, `[n, V]`, for the order of tokens whose weights were rounded to the same number.
        ids: Columns of `logits` that belong to `weights`, `[n, M]`; None where they are the same.

    Returns:
        The tokens that stay, `[n, M]` bool; whether a row's listed tokens reach top-p, `[n]` bool.
    """
    descending = np.sort(weights, axis=1)[:, ::-1]
    # Sums are taken in sequence, so that zeros after a row do not change them.
    sums = np.cumsum(descending, axis=1, dtype=np.float64)
    reached = sums >= (sums[:, -1:] if totals is None else totals) * top_p
    complete = reached[:, -1].copy()
    reached[:, -1] = True
    last = reached.argmax(axis=1)
    border = descending[np.arange(len(last)), last][:, None]
    kept = weights >= border
    if np.count_nonzero(kept) > last.sum() + len(last):
        for row in np.flatnonzero(kept.sum(axis=1) > last + 1):
            equal = np.flatnonzero(weights[row] == border[row])
            order = logits[row, equal if ids is None else ids[row, equal]].argsort(kind="stable")
            kept[row, equal[order[: kept[row].sum() - last[row] - 1]]] = False
    return kept, complete


def _min_p(parts: list[Candidates], min_p: Floats | None) -> list[Candidates]:
    """The tokens that min-p keeps of those that the other filters keep."""
    if min_p is None:
        return parts
    least = [min_p if part.rows is None else min_p[part.rows] for part in parts]
    return [
        _kept(part.ids, part.weights, part.weights >= bound)._replace(rows=part.rows)
        for part, bound in zip(parts, least, strict=True)
    ]


def _kept(ids: TokenIds | None, weights: Floats, kept: Mask | None) -> Candidates:
    return Candidates(None, ids, weights if kept is None else weights * kept, kept)


def _draw(part: Candidates, thresholds: Doubles) -> TokenIds:
    if part.ids is None:
        return _draw_in_blocks(part.weights, thresholds)
    # Sums are taken in sequence, so that zeros in a row do not change them.
    sums = np.cumsum(part.weights, axis=1, dtype=np.float64)
    columns = _first_above(sums, thresholds * sums[:, -1])
    return part.ids[np.arange(len(columns)), columns]


def _draw_in_blocks(weights: Floats, thresholds: Doubles) -> TokenIds:
    """Draw from whole rows: first the block that the threshold falls into, then the token in it."""
    missing = -weights.shape[1] % _BLOCK
    blocks = (np.pad(weights, ((0, 0), (0, missing))) if missing else weights).reshape(len(weights), -1, _BLOCK)
    sums = np.cumsum(blocks.sum(axis=2), axis=1, dtype=np.float64)
    targets = thresholds * sums[:, -1]
    chosen = _first_above(sums, targets)
    rows = np.arange(len(weights))
    sums_before = np.where(chosen > 0, sums[rows, chosen - 1], 0.0)
    sums = np.cumsum(blocks[rows, chosen], axis=1, dtype=np.float64)
    return chosen * _BLOCK + _first_above(sums, targets - sums_before)


def _first_above(sums: Doubles, targets: Doubles) -> Indices:
    """The first column of each row whose sum is above the target, `[n]`.

    Where rounding has made the target as large as the last sum, it is the last token with a weight.
    """
    below = np.minimum(targets, np.nextafter(sums[:, -1], 0.0))
    return (sums > below[:, None]).argmax(axis=1)


def _reached(top_p: Sequence[float]) -> Doubles:
    """The least float64 sums that count as `top_p`, `[n, 1]`.

    As in torch, the sum of the tokens that are removed is at most 1 - top_p when both are rounded to float32.
    """
    removable = np.array([1.0 - each for each in top_p], dtype=np.float32)[:, None]
    above = np.nextafter(removable, np.float32(2.0))
    reached: Doubles = 1.0 - (removable.astype(np.float64) + above) / 2.0
    return reached


def _column(values: Sequence[float]) -> Floats:
    return np.array(values, dtype=np.float32)[:, None]
