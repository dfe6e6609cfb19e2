"""Prompt-lookup speculative decoding: where a text repeats itself, one run of the model gives several tokens.

Source:
    Leviathan et al. 2023, "Fast Inference from Transformers via Speculative Decoding", algorithm 1; with a draft that
    proposes one token with certainty, sampling as usual and comparing is equivalent to their rejection rule.
    Saxena 2023, "Prompt Lookup Decoding".
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from time import perf_counter

import numpy as np

from .session.model import Logits, TokenIds
from .session.session import Session

LONGEST_DRAFT = 31
"""The most tokens of a draft; with the token before them they are 32 rows, a block that kernels compute at once."""

ALLOWANCE = 0.015
"""The share of the time of plain steps that wrong drafts may cost; the documented bound is twice as much, 3 %."""

GRANT, MOST_CREDIT = 1.0, 8.0
"""The credit for drafts at the beginning and the most that is saved up, in plain decode steps."""

FIRST_COST = 0.3
"""The initial estimate of the cost of one more token in a run, in plain steps: that of the slowest graph measured."""

SMOOTHING = 0.25
"""The weight of the newest measurement in the moving average of a cost."""


def changes_no_token(target: str, precision: str | None, *, int8_cache: bool = False) -> bool:
    """Whether a graph's logits for several tokens equal those of single steps except for float32's last digits.

    They do not where activations are rounded, to float16 or to the eight bits of target `ort`'s integer kernels, or
    where the KV cache is: there a difference in the last digit can change a rounding, and with it a token.

    Args:
        target: Target of the graph.
        precision: Precision of the weights, None if not recorded.
        int8_cache: Whether the graph has an int8 KV cache.
    """
    if int8_cache:
        return False
    return precision == "fp32" or (target == "portable" and precision in ("int8", "int4"))


class Speculation:
    """Decodes token by token as `Session.decode` does, with fewer runs of the model.

    A draft runs together with the token before it. As long as the caller's next tokens are the drafted ones, their
    logits are there already; a different token rolls the session back. So the caller chooses every token itself, from
    the logits and with the random numbers of plain decoding.

    Args:
        session: A session with one row that holds the prompt; `gives_all_logits` is true.
        prompt: Token ids that the session holds.
        limit: Most cache slots to use.

    Attributes:
        length: Cache slots that plain decoding would have in use; the session may hold a draft after them.
        drafted: Number of tokens that were drafted.
        accepted: Number of drafted tokens that the caller chose, each of which saved a run of the model.
    """

    def __init__(self, session: Session, prompt: Iterable[int], limit: int) -> None:
        self.length = session.length
        self.drafted = 0
        self.accepted = 0
        self._session = session
        self._limit = min(limit, session.max_length)
        self._lookup = PromptLookup(prompt)
        self._budget = DraftBudget()
        self._draft: list[int] = []
        self._right = 0
        self._rows: Logits | None = None  # [1, S, V], the logits of the run with the draft

    def decode(self, tokens: TokenIds) -> Logits:
        """Append a token `[1]`; its next-token logits `[1, V]` float32 are valid until the next call."""
        token = int(tokens[0])
        self._lookup.add(token)
        if self._rows is not None and self._right < len(self._draft) and self._draft[self._right] == token:
            self._right += 1
            self.length += 1
            self.accepted += 1
            return self._rows[:, self._right]
        return self._run(tokens, rolled_back=self.settle())

    def settle(self) -> bool:
        """Roll the session back to `length` and report the draft to the budget; whether the session held more."""
        if self._rows is not None:
            self._budget.judged(len(self._draft), self._right)
        self._draft, self._right, self._rows = [], 0, None
        if self._session.length <= self.length:
            return False
        self._session.truncate(self.length)
        return True

    def _run(self, tokens: TokenIds, *, rolled_back: bool) -> Logits:
        """Run a token, followed by a draft if there is one within the budget."""
        self._draft = self._lookup.draft(min(self._budget.affordable, self._limit - self.length - 1))
        started = perf_counter()
        if not self._draft:
            logits = self._session.decode(tokens)
            self._budget.took_step(perf_counter() - started, rolled_back=rolled_back)
        else:
            self._rows = self._session.forward(np.concatenate([tokens, self._draft])[None])
            self._budget.took_draft(perf_counter() - started, len(self._draft))
            self.drafted += len(self._draft)
            logits = self._rows[:, 0]
        self.length += 1
        return logits


class PromptLookup:
    """A text of token ids with the last position of each of its n-grams of two and three tokens.

    Adding a token costs two dictionary entries, and drafting two accesses, however long the text is.

    Args:
        token_ids: Token ids that the text begins with.
    """

    def __init__(self, token_ids: Iterable[int] = ()) -> None:
        self._tokens: list[int] = []
        self._after_two: dict[tuple[int, int], int] = {}
        self._after_three: dict[tuple[int, int, int], int] = {}
        for token_id in token_ids:
            self.add(token_id)

    def add(self, token_id: int) -> None:
        """Append a token, and record the position of the n-grams that it follows."""
        tokens = self._tokens
        index = len(tokens)
        if index > 2:
            third, second, first = tokens[-3:]
            self._after_three[third, second, first] = index
            self._after_two[second, first] = index
        elif index == 2:
            self._after_two[tokens[0], tokens[1]] = index
        tokens.append(token_id)

    def draft(self, count: int) -> list[int]:
        """The `count` tokens that followed the last three tokens, or the last two, at an earlier place; or none.

        Where fewer than `count` follow there, they are repeated.
        """
        tokens = self._tokens
        if count < 1 or len(tokens) < 2:
            return []
        start = self._after_three.get((tokens[-3], tokens[-2], tokens[-1])) if len(tokens) > 2 else None
        if start is None:
            start = self._after_two.get((tokens[-2], tokens[-1]))
            if start is None:
                return []
        drafted = list(islice(tokens, start, start + count))
        period = len(tokens) - start
        while len(drafted) < count:
            drafted.append(drafted[-period])
        return drafted


class DraftBudget:
    """The number of tokens to draft: it doubles after a right draft, and is bounded by the time that wrong drafts cost.

    All costs are measured in plain steps of one token. A plain step earns the credit `ALLOWANCE`; a draft earns its
    right tokens and pays the extra cost of its run. Timing decides the length of drafts, never the tokens.
    """

    def __init__(self) -> None:
        self._step_s = 0.0
        self._token_cost = FIRST_COST
        self._rollback_cost = 0.0
        self._credit = GRANT
        self._length = 1

    @property
    def affordable(self) -> int:
        """The number of tokens to draft now; 0 until a step has been measured."""
        if not self._step_s:
            return 0
        return min(self._length, int((self._credit - self._rollback_cost) / self._token_cost))

    def took_step(self, seconds: float, *, rolled_back: bool) -> None:
        """Record the time of a step of one token; after a roll-back, the extra time is the roll-back's cost."""
        if rolled_back:
            cost = min(max(seconds / self._step_s - 1.0, 0.0), 1.0)  # more is a pause of the system
            self._rollback_cost += SMOOTHING * (cost - self._rollback_cost)
            self._credit -= cost
            return
        self._step_s += SMOOTHING * (seconds - self._step_s) if self._step_s else seconds
        self._credit = min(MOST_CREDIT, self._credit + ALLOWANCE)

    def took_draft(self, seconds: float, drafted: int) -> None:
        """Record the time of a run of one token and a draft."""
        # At most four times the expected time: a run that takes longer was delayed by something else.
        cost = min(max((seconds / self._step_s - 1.0) / drafted, 0.01), 4 * self._token_cost)
        self._token_cost += SMOOTHING * (cost - self._token_cost)
        self._credit -= cost * drafted

    def judged(self, drafted: int, right: int) -> None:
        """Record how many tokens of a draft were right before the first wrong one."""
        self._credit = min(MOST_CREDIT, self._credit + right)
        self._length = min(2 * drafted, LONGEST_DRAFT) if right == drafted else max(right, 1)
