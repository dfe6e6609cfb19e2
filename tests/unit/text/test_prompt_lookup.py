"""Where a text stood like this before, and what followed there."""

from __future__ import annotations

import numpy as np
import pytest

from minimind_edge.runtime.speculation import PromptLookup


def slow_draft(tokens, count):
    """By the definition: what followed the last earlier place of the last three tokens, else of the last two."""
    for size in (3, 2):
        for start in range(len(tokens) - size - 1, -1, -1):
            if tokens[start : start + size] == tokens[-size:]:
                text = list(tokens)
                while len(text) < start + size + count:
                    text.append(text[start + size + len(text) - len(tokens)])
                return text[start + size : start + size + count]
    return []


@pytest.mark.parametrize("vocabulary", [2, 3, 8])
def test_drafts_what_a_search_finds(vocabulary):
    tokens = np.random.default_rng(vocabulary).integers(0, vocabulary, 300).tolist()
    lookup = PromptLookup()
    for end, token in enumerate(tokens, start=1):
        lookup.add(token)
        assert lookup.draft(5) == slow_draft(tokens[:end], 5), end


@pytest.mark.parametrize("tokens", [[], [1], [1, 2], [1, 2, 3, 4], [1, 1]])
def test_nothing_stood_before(tokens):
    assert PromptLookup(tokens).draft(3) == []


def test_a_match_of_three_comes_before_a_later_one_of_two():
    assert PromptLookup([1, 2, 3, 7, 9, 2, 3, 8, 1, 2, 3]).draft(1) == [7]


def test_the_newest_place_counts():
    assert PromptLookup([1, 2, 7, 1, 2, 8, 1, 2]).draft(1) == [8]


def test_a_draft_is_what_followed():
    lookup = PromptLookup([1, 2, 3, 4, 5, 6, 1, 2])
    assert lookup.draft(3) == [3, 4, 5]
    assert lookup.draft(0) == []


def test_a_draft_goes_on_after_the_end_of_the_text():
    assert PromptLookup([9, 1, 2, 3, 1, 2, 3, 1]).draft(8) == [2, 3, 1, 2, 3, 1, 2, 3]


def test_one_token_again_and_again():
    assert PromptLookup([4, 4, 4, 4]).draft(3) == [4, 4, 4]
