"""Drafts by prompt lookup: what followed where the text stood like this before may follow again.

Source:
    Saxena 2023, "Prompt Lookup Decoding".
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

LONGEST_MATCH = 16
"""Most tokens that are compared to tell how well a place matches."""


class Match(NamedTuple):
    """A place in a text that reads like its end.

    Attributes:
        behind: Index of the token that followed there.
        length: Tokens in front of it that equal the end of the text, 2 to `LONGEST_MATCH`.
    """

    behind: int
    length: int


class PromptLookup:
    """A text of token ids that knows where each of its pairs and triples of tokens stood last.

    A token costs two dictionary entries, a look-up two accesses, however long the text is.

    Args:
        token_ids: How the text begins.
    """

    def __init__(self, token_ids: Iterable[int] = ()) -> None:
        self._tokens: list[int] = []
        self._behind_two: dict[tuple[int, int], int] = {}
        self._behind_three: dict[tuple[int, int, int], int] = {}
        for token_id in token_ids:
            self.add(token_id)

    def add(self, token_id: int) -> None:
        """Append a token; the n-grams in front of it become known with what follows them."""
        tokens = self._tokens
        index = len(tokens)
        if index > 2:
            third, second, first = tokens[-3:]
            self._behind_three[third, second, first] = index
            self._behind_two[second, first] = index
        elif index == 2:
            self._behind_two[tokens[0], tokens[1]] = index
        tokens.append(token_id)

    def find(self) -> Match | None:
        """The last place where the text's last three tokens stood before, else its last two."""
        tokens = self._tokens
        if len(tokens) < 2:
            return None
        behind = self._behind_three.get((tokens[-3], tokens[-2], tokens[-1])) if len(tokens) > 2 else None
        if behind is None:
            behind = self._behind_two.get((tokens[-2], tokens[-1]))
            if behind is None:
                return None
        return Match(behind, self._match_length(behind))

    def draft(self, match: Match, count: int) -> list[int]:
        """The `count` tokens behind a match; where the text ends within them, they go on as they began."""
        tokens = self._tokens
        drafted = list(islice(tokens, match.behind, match.behind + count))
        period = len(tokens) - match.behind
        while len(drafted) < count:
            drafted.append(drafted[-period])
        return drafted

    def _match_length(self, behind: int) -> int:
        tokens = self._tokens
        limit = min(behind, LONGEST_MATCH)
        end = len(tokens)
        length = 2
        while length < limit and tokens[behind - 1 - length] == tokens[end - 1 - length]:
            length += 1
        return length
