"""Where a text stood like this before, and what followed there."""

from __future__ import annotations

import numpy as np
import pytest

from minimind_edge.runtime.prompt_lookup import LONGEST_MATCH, Match, PromptLookup


def slow_find(tokens):
    """By the definition: the last earlier place of the last three tokens, else of the last two."""
    for size in (3, 2):
        for start in range(len(tokens) - size - 1, -1, -1):
            if len(tokens) > size and tokens[start : start + size] == tokens[-size:]:
                behind = start + size
                length = size
                while length < min(behind, LONGEST_MATCH) and tokens[behind - 1 - length] == tokens[-1 - length]:
                    length += 1
                return Match(behind, length)
    return None


@pytest.mark.parametrize("vocabulary", [2, 3, 8])
def test_finds_what_a_search_finds(vocabulary):
    tokens = np.random.default_rng(vocabulary).integers(0, vocabulary, 300).tolist()
    lookup = PromptLookup()
    for end, token in enumerate(tokens, start=1):
        lookup.add(token)
        assert lookup.find() == slow_find(tokens[:end]), end


@pytest.mark.parametrize("tokens", [[], [1], [1, 2], [1, 2, 3, 4], [1, 1]])
def test_nothing_stood_before(tokens):
    assert PromptLookup(tokens).find() is None


def test_a_match_of_three_comes_before_a_later_one_of_two():
    assert PromptLookup([1, 2, 3, 7, 9, 2, 3, 8, 1, 2, 3]).find() == Match(behind=3, length=3)


def test_the_newest_place_counts():
    assert PromptLookup([1, 2, 7, 1, 2, 8, 1, 2]).find() == Match(behind=5, length=2)


def test_a_draft_is_what_followed():
    lookup = PromptLookup([1, 2, 3, 4, 5, 6, 1, 2])
    assert lookup.find() == Match(behind=2, length=2)
    assert lookup.draft(lookup.find(), 3) == [3, 4, 5]


def test_a_draft_goes_on_behind_the_end_of_the_text():
    lookup = PromptLookup([9, 1, 2, 3, 1, 2, 3, 1])
    match = lookup.find()
    assert match == Match(behind=5, length=4)
    assert lookup.draft(match, 8) == [2, 3, 1, 2, 3, 1, 2, 3]


def test_one_token_again_and_again():
    lookup = PromptLookup([4, 4, 4, 4])
    assert lookup.draft(lookup.find(), 3) == [4, 4, 4]
