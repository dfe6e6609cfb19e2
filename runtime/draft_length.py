"""How many tokens to draft, by what drafts have cost and brought so far."""

from __future__ import annotations

LENGTHS = (1, 2, 3, 5, 7, 11, 15, 23, 31)
"""Drafts that are considered; with the token in front of them they fill the rows that kernels work on together."""

CLASSES = ((4, 0.45), (8, 0.65), (16, 0.8), (17, 0.9))
"""Matches are told apart by their length (less than the first number), because longer ones are right more often; with
each class goes the share of right tokens that is assumed at first."""

PRIOR_WEIGHT = 4.0
"""Tokens that the assumed share counts for."""

MEMORY = 0.9
"""Of what was seen of a class, that much counts after one more draft."""

PRIOR_SLOPE = 0.3
"""What one more token in a run costs, in steps, until it is measured: as in the dearest graph that was."""

LEAST_GAIN = 1.05
"""A draft is worth trying from so many expected tokens for the cost of one step on."""

ALLOWANCE = 0.015
"""Of the time of plain steps, that much may be lost to drafts."""

GRANT = 1.0
"""Steps that may be lost before there was time to earn them."""

MOST_CREDIT = 8.0
"""Most steps that are saved up: a text that stops repeating itself does not pay for long."""

SMOOTHING = 0.25
"""Weight of the newest measurement."""

MOST_NOISE = 2.0
"""A run that takes so many times what was expected was held up by something else."""

LEAST_SLOPE = 0.01
"""No token is free."""


class DraftLength:
    """Chooses the length that promises most tokens for the time, within a budget of what drafts may lose.

    Learnt are: how often a drafted token is right, by the length of the match; what a token of a run costs beside the
    first one; and what rolling a draft back costs. The budget makes sure of the worst case: steps earn `ALLOWANCE`, a
    run with a draft earns the tokens that were right and pays what such runs cost, and nothing is drafted that could
    lose more than there is. All costs are counted in steps of one token. Time decides what is tried, never what comes
    out.
    """

    def __init__(self) -> None:
        self._step_s = 0.0
        self._slope = PRIOR_SLOPE
        self._rollback = 0.0
        self._credit = GRANT
        self._right = [share * PRIOR_WEIGHT for _, share in CLASSES]
        self._seen = [PRIOR_WEIGHT for _ in CLASSES]

    def choose(self, match_length: int, most: int) -> int:
        """Tokens to draft, 0 to `most`.

        Args:
            match_length: Of the place that the draft comes from.
            most: Tokens that there is room for.
        """
        kind = _class_of(match_length)
        share = self._right[kind] / self._seen[kind]
        affordable = min(most, int((self._credit - self._rollback) / self._slope)) if self._step_s else 0
        best, best_gain = 0, LEAST_GAIN
        expected, right, drafted = 1.0, 1.0, 0
        for length in LENGTHS:
            if length > affordable:
                break
            for _ in range(drafted, length):
                right *= share
                expected += right
            drafted = length
            gain = expected / (1.0 + self._rollback + self._slope * length)
            if gain > best_gain:
                best, best_gain = length, gain
        return best

    def took_step(self, seconds: float, *, behind_draft: bool) -> None:
        """Learn from a step of one token; what it takes longer behind a draft is the cost of rolling that back."""
        if behind_draft:
            self._rollback = max(0.0, _smoothed(self._rollback, min(seconds / self._step_s, MOST_NOISE) - 1.0))
            self._credit -= self._rollback
            return
        self._step_s = _smoothed(self._step_s, seconds) if self._step_s else seconds
        self._credit = min(MOST_CREDIT, self._credit + ALLOWANCE)

    def took_draft(self, seconds: float, drafted: int) -> None:
        """Learn what a run of one token and a draft costs."""
        most = MOST_NOISE * (1.0 + self._slope * drafted)
        steps = min(max(seconds / self._step_s, 1.0 + LEAST_SLOPE * drafted), most)
        self._slope = _smoothed(self._slope, (steps - 1.0) / drafted)
        self._credit -= self._slope * drafted

    def saved_steps(self, count: int) -> None:
        """Put the tokens of a draft that were right to its credit."""
        self._credit = min(MOST_CREDIT, self._credit + count)

    def judged(self, match_length: int, drafted: int, right: int) -> None:
        """Learn how much of a draft was right, whether it was run or not.

        Args:
            match_length: Of the place that it came from.
            drafted: Its tokens.
            right: Those before the first wrong one, behind which nothing tells anything.
        """
        kind = _class_of(match_length)
        self._right[kind] = MEMORY * self._right[kind] + right
        self._seen[kind] = MEMORY * self._seen[kind] + min(drafted, right + 1)


def _smoothed(old: float, new: float) -> float:
    return old + SMOOTHING * (new - old)


def _class_of(match_length: int) -> int:
    return next(index for index, (limit, _) in enumerate(CLASSES) if match_length < limit)
