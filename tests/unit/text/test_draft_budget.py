"""What is drafted, by costs and shares that are made up."""

from __future__ import annotations

import pytest

from minimind_edge.runtime.speculation import LONGEST_DRAFT, DraftBudget


def simulate(steps, token_cost, share, *, rollback=0.0):
    """Generate `steps` tokens where every place matches; seconds, in steps, and the longest draft.

    A token of a draft is right for `share` of the time, spread evenly.
    """
    budget = DraftBudget()
    seconds, tokens, longest, owed, rolled_back = 0.0, 0, 0, 0.0, False
    while tokens < steps:
        count = budget.affordable
        longest = max(longest, count)
        right = 0
        while right < count:
            owed += share
            if owed < 1.0:
                break
            owed -= 1.0
            right += 1
        cost = 1.0 + token_cost * count + (rollback if rolled_back else 0.0)
        seconds += cost
        if count:
            budget.took_draft(cost, count)
            budget.judged(count, right)
        else:
            budget.took_step(cost, rolled_back=rolled_back)
        tokens += 1 + right
        rolled_back = count > right
    return seconds / tokens, longest


@pytest.mark.parametrize("token_cost", [0.03, 0.13, 0.3, 1.0])
def test_drafts_that_are_always_wrong_cost_less_than_three_percent(token_cost):
    for steps in (100, 1000):
        seconds, _ = simulate(steps, token_cost, share=0.0)
        assert seconds < 1.03


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_drafts_that_are_seldom_right_cost_less_than_three_percent(share):
    assert simulate(200, 0.3, share)[0] < 1.03


def test_a_dear_roll_back_is_within_the_budget():
    assert simulate(500, 0.1, 0.2, rollback=0.5)[0] < 1.03


@pytest.mark.parametrize(("token_cost", "faster", "long"), [(0.03, 5.0, 31), (0.13, 2.5, 31), (0.3, 1.6, 23)])
def test_drafts_that_are_always_right_grow(token_cost, faster, long):
    seconds, longest = simulate(300, token_cost, share=1.0)
    assert seconds < 1 / faster
    assert long <= longest <= LONGEST_DRAFT


def test_nothing_is_drafted_before_a_step_was_measured():
    assert DraftBudget().affordable == 0


def test_a_text_that_begins_to_repeat_itself_late_is_noticed():
    budget = DraftBudget()
    budget.took_step(1.0, rolled_back=False)
    while (count := budget.affordable) > 0:
        budget.took_draft(1.0 + 0.1 * count, count)
        budget.judged(count, 0)
    steps = 0
    while not budget.affordable:
        budget.took_step(1.0, rolled_back=False)
        steps += 1
    assert steps < 30
    for _ in range(8):
        count = budget.affordable
        budget.took_draft(1.0 + 0.1 * count, count)
        budget.judged(count, count)
    assert budget.affordable == LONGEST_DRAFT


def test_a_pause_of_the_system_does_not_end_it():
    budget = DraftBudget()
    budget.took_step(1.0, rolled_back=False)
    for _ in range(10):
        budget.took_draft(1.1, 3)
        budget.judged(3, 3)
    budget.took_draft(500.0, 3)
    assert budget.affordable > 3
