"""Prompt-lookup speculative decoding: where a text repeats itself, several tokens come from one run of the model.

Source:
    Leviathan et al. 2023, "Fast Inference from Transformers via Speculative Decoding", algorithm 1; where a draft
    proposes one token for certain, to draw the token as ever and to compare does what their rejection rule does.
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
"""Most tokens of a draft: with the token before them they fill the rows that kernels work on together."""

ALLOWANCE = 0.015
"""Steps that a plain step earns: that share of the time, half of what is promised, may be lost to drafts."""

GRANT, MOST_CREDIT = 1.0, 8.0
"""Steps that may be lost before there was time to earn them, and most steps that are saved up."""

FIRST_COST = 0.3
"""Cost of one more token in a run, in steps, until it is measured: that of the dearest graph there was."""

SMOOTHING = 0.25
"""Weight of the newest measurement of a cost."""


def changes_no_token(target: str, precision: str | None, *, int8_cache: bool = False) -> bool:
    """Whether a graph's logits of several tokens are those of single steps but for float32's last digits.

    Where activations are rounded, to float16 or to the eight bits of target `ort`'s integer kernels, a last digit can
    tip a rounding, and what follows differs as much as by any other rounding. So it is for keys and values that are
    rounded for the cache.

    Args:
        target: Of the graph.
        precision: Of its weights, None where it doesn't tell.
        int8_cache: Whether the graph rounds what it caches to eight bits.
    """
    if int8_cache:
        return False
    return precision == "fp32" or (target == "portable" and precision in ("int8", "int4"))


class Speculation:
    """Gives what `Session.decode` gives, token by token, from fewer runs of the model.

    A draft is run together with the token before it. As long as the caller then asks for what was drafted, the
    logits are there; another token rolls the session back to where they part. So the caller chooses every token itself,
    from the logits of plain decoding and with the random numbers of plain decoding.

    Args:
        session: One row, with the prompt in it; `gives_all_logits` is true.
        prompt: The tokens that it holds.
        limit: Slots that may ever be asked for.

    Attributes:
        length: Slots that plain decoding would have in use; the session may hold a draft after them.
        drafted: Tokens that were drafted.
        accepted: Those of them that were asked for: runs of the model that were saved.
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
        self._rows: Logits | None = None  # [1, S, V] of the run with the draft

    def decode(self, tokens: TokenIds) -> Logits:
        """See `Session.decode`; valid until the next call."""
        token = int(tokens[0])
        self._lookup.add(token)
        if self._rows is not None and self._right < len(self._draft) and self._draft[self._right] == token:
            self._right += 1
            self.length += 1
            self.accepted += 1
            return self._rows[:, self._right]
        return self._run(tokens, rolled_back=self.settle())

    def settle(self) -> bool:
        """Learn from the draft, and roll the session back to `length`; whether it held more."""
        if self._rows is not None:
            self._budget.judged(len(self._draft), self._right)
        self._draft, self._right, self._rows = [], 0, None
        if self._session.length <= self.length:
            return False
        self._session.truncate(self.length)
        return True

    def _run(self, tokens: TokenIds, *, rolled_back: bool) -> Logits:
        """Run a token, and a draft after it where there is one that the budget allows."""
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
    """A text of token ids that knows where each of its pairs and triples of tokens stood last.

    A token costs two dictionary entries, a look-up two accesses, however long the text is.

    Args:
        token_ids: How the text begins.
    """

    def __init__(self, token_ids: Iterable[int] = ()) -> None:
        self._tokens: list[int] = []
        self._after_two: dict[tuple[int, int], int] = {}
        self._after_three: dict[tuple[int, int, int], int] = {}
        for token_id in token_ids:
            self.add(token_id)

    def add(self, token_id: int) -> None:
        """Append a token; the n-grams before it become known with what follows them."""
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
        """What followed the last three tokens (else the last two) where they stood before: `count` tokens, or none.

        Where the text ends within them, they go on as they began.
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
    """How many tokens to draft: twice as many after a draft that was right, and never more than may be lost.

    All costs are counted in plain steps of one token, and measured. Steps earn `ALLOWANCE`, a draft earns its tokens
    that were right and pays what its run cost more than a step: so wrong drafts cost no more than that share of the
    time. Time decides what is tried, never which token comes out.
    """

    def __init__(self) -> None:
        self._step_s = 0.0
        self._token_cost = FIRST_COST
        self._rollback_cost = 0.0
        self._credit = GRANT
        self._length = 1

    @property
    def affordable(self) -> int:
        """Tokens to draft now; 0 until a step was measured."""
        if not self._step_s:
            return 0
        return min(self._length, int((self._credit - self._rollback_cost) / self._token_cost))

    def took_step(self, seconds: float, *, rolled_back: bool) -> None:
        """Learn what a step of one token takes; what it takes longer after a roll-back is the cost of that."""
        if rolled_back:
            cost = min(max(seconds / self._step_s - 1.0, 0.0), 1.0)  # more is a pause of the system
            self._rollback_cost += SMOOTHING * (cost - self._rollback_cost)
            self._credit -= cost
            return
        self._step_s += SMOOTHING * (seconds - self._step_s) if self._step_s else seconds
        self._credit = min(MOST_CREDIT, self._credit + ALLOWANCE)

    def took_draft(self, seconds: float, drafted: int) -> None:
        """Learn what a run of one token and a draft takes."""
        # At most four times what was expected: a run that takes longer was held up by something else.
        cost = min(max((seconds / self._step_s - 1.0) / drafted, 0.01), 4 * self._token_cost)
        self._token_cost += SMOOTHING * (cost - self._token_cost)
        self._credit -= cost * drafted

    def judged(self, drafted: int, right: int) -> None:
        """Learn how many tokens of a draft were right before the first wrong one."""
        self._credit = min(MOST_CREDIT, self._credit + right)
        self._length = min(2 * drafted, LONGEST_DRAFT) if right == drafted else max(right, 1)
