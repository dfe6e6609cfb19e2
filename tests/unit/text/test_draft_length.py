"""What is drafted, by costs and shares that are made up."""

from __future__ import annotations

import pytest

from minimind_edge.runtime.draft_length import LENGTHS, DraftLength


def simulate(steps, slope, share, *, match_length=3, rollback=0.0):
    """Generate `steps` tokens where every place matches; seconds, in steps, and the longest draft.

    A token of a draft is right for `share` of the time, spread evenly.
    """
    lengths = DraftLength()
    seconds, tokens, longest, owed, is_behind = 0.0, 0, 0, 0.0, False
    while tokens < steps:
        count = lengths.choose(match_length, steps)
        longest = max(longest, count)
        right = 0
        while right < max(count, 1):
            owed += share
            if owed < 1.0:
                break
            owed -= 1.0
            right += 1
        cost = 1.0 + slope * count + (rollback if is_behind else 0.0)
        seconds += cost
        if count:
            lengths.took_draft(cost, count)
            lengths.saved_steps(right)
        else:
            lengths.took_step(cost, behind_draft=is_behind)
        lengths.judged(match_length, max(count, 1), right)
        tokens += 1 + (right if count else 0)
        is_behind = count > right
    return seconds / tokens, longest


@pytest.mark.parametrize("slope", [0.03, 0.13, 0.3, 1.0])
@pytest.mark.parametrize("match_length", [2, 6, 12, 16])
def test_drafts_that_are_always_wrong_cost_less_than_three_percent(slope, match_length):
    for steps in (100, 1000):
        seconds, _ = simulate(steps, slope, share=0.0, match_length=match_length)
        assert seconds < 1.03


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_drafts_that_are_seldom_right_cost_less_than_three_percent(share):
    assert simulate(200, 0.3, share)[0] < 1.03


def test_a_dear_roll_back_is_within_the_budget():
    assert simulate(500, 0.1, 0.2, rollback=0.5)[0] < 1.03


@pytest.mark.parametrize(("slope", "faster", "long"), [(0.03, 5.0, 31), (0.13, 2.5, 31), (0.3, 1.6, 23)])
def test_drafts_that_are_always_right_grow(slope, faster, long):
    seconds, longest = simulate(300, slope, share=1.0)
    assert seconds < 1 / faster
    assert long <= longest <= LENGTHS[-1]


def test_nothing_is_drafted_before_a_step_was_measured():
    assert DraftLength().choose(16, 31) == 0


@pytest.mark.parametrize("most", [-1, 0, 1, 4])
def test_no_more_than_there_is_room_for(most):
    lengths = DraftLength()
    lengths.took_step(1.0, behind_draft=False)
    assert lengths.choose(16, most) <= max(most, 0)


def test_what_would_have_been_right_is_learnt_without_being_run():
    lengths = DraftLength()
    lengths.took_step(1.0, behind_draft=False)
    for _ in range(20):
        lengths.judged(3, 1, 0)
    assert lengths.choose(3, 31) == 0
    assert lengths.choose(8, 31) > 0, "longer matches are another class"
    for _ in range(20):
        lengths.judged(3, 1, 1)
    assert lengths.choose(3, 31) > 0


def test_a_pause_of_the_system_does_not_end_it():
    lengths = DraftLength()
    lengths.took_step(1.0, behind_draft=False)
    for _ in range(10):
        lengths.took_draft(1.1, 3)
        lengths.saved_steps(3)
        lengths.judged(16, 3, 3)
    lengths.took_draft(500.0, 3)
    assert lengths.choose(16, 31) > 3
