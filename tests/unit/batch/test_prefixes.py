from __future__ import annotations

import numpy as np
import pytest
from toy_slots import KV_BYTES

from minimind_edge.runtime.batch.prefixes import LEAST_REUSED, LEAST_STORED, STORED_ENTRIES

EVERYTHING = {"exact_reuse": False, "prefix_bytes": 1 << 20}
"""Options under which decoded positions are reused too."""


def run(made, prompt, count=4):
    """Answer one request to its end; returns its ticket."""
    ticket = made.add(prompt, count)
    made.finish(ticket)
    return ticket


def test_a_prompt_takes_what_its_own_slot_holds(bench, alone, tokens):
    made, one = bench(1, exact_reuse=False), alone()
    first = run(made, tokens(60), 9)
    conversation = [*first.request.prompt.token_ids, *first.token_ids, *tokens(20, 1)]
    made.session.calls.clear()
    second = run(made, conversation)
    assert second.cached_tokens == 60 + 8  # the last token of the answer has not been run
    assert made.runs("prefill") == [(0, 1 + 20)]
    assert made.runs("copy") == []
    assert second.token_ids == one(second.request).token_ids


def test_a_prompt_takes_the_prefix_of_a_running_row(bench, alone, tokens):
    made, one = bench(3), alone()
    system = tokens(100)
    first = made.add([*system, *tokens(10, 1)], 50)
    made.steps(3)
    second = made.add([*system, *tokens(10, 2)], 5)
    made.finish(first, second)
    assert second.cached_tokens == 100
    assert made.runs("copy") == [(0, 1, 100)]
    assert made.runs("prefill")[1:] == [(1, 10)]
    for ticket in (first, second):
        assert ticket.token_ids == one(ticket.request).token_ids


def test_the_same_prompt_again_runs_its_last_tokens(bench, tokens):
    """One token has to run for its logits; for exact results two, since one runs as a decode step does."""
    for options, cached in (
        ({"exact_reuse": False}, 98),
        ({"exact_reuse": True}, 97),
        ({"exact_reuse": True, "even_chunks": True}, 96),
        ({"exact_reuse": False, "even_chunks": True}, 98),
    ):
        made = bench(1, **options)
        run(made, tokens(99))
        assert run(made, tokens(99)).cached_tokens == cached


def test_the_reused_length_is_even_with_even_chunks(bench, alone, tokens):
    made, one = bench(2, even_chunks=True), alone()
    shared = tokens(61)
    run(made, [*shared, 1, *tokens(20, 1)])
    second = run(made, [*shared, 2, *tokens(20, 2)])
    assert second.cached_tokens == 60
    assert second.token_ids == one(second.request).token_ids


def test_positions_of_decode_steps_are_not_reused_for_exact_results(bench, tokens):
    made = bench(1)
    first = run(made, tokens(60), 30)
    second = run(made, [*first.request.prompt.token_ids, *first.token_ids, *tokens(20, 1)])
    assert second.cached_tokens == 60


def test_a_short_prefix_is_not_worth_it(bench, tokens):
    made = bench(1, prefix_bytes=1 << 20)
    shared = tokens(LEAST_REUSED)
    run(made, [*shared, *tokens(LEAST_STORED, 1)])
    assert run(made, [*shared[:-1], 49 - shared[-1], 5, 6]).cached_tokens == 0
    assert run(made, [*shared, 4, 5, 6]).cached_tokens == LEAST_REUSED


def test_the_slot_of_the_longest_prefix_is_taken_itself(bench, tokens):
    made = bench(3)
    held = [tokens(80, seed) for seed in range(3)]
    tickets = [made.add(prompt, 4) for prompt in held]
    made.finish(*tickets)
    made.session.calls.clear()
    made.add([*held[0], *tokens(9, 7)], 60)
    made.steps(2)
    assert made.runs("prefill") == [(0, 9)]
    assert made.runs("copy") == []


def test_a_prefix_in_a_high_free_slot_is_copied_down(bench, alone, tokens):
    made, one = bench(3, prefix_bytes=1 << 20), alone()
    held = [tokens(80, seed) for seed in range(3)]
    made.finish(*[made.add(prompt, 4) for prompt in held])
    made.session.calls.clear()
    ticket = run(made, [*held[2], *tokens(9, 7)])
    assert made.runs("copy") == [(2, 0, 80)]
    assert ticket.token_ids == one(ticket.request).token_ids
    overwritten = run(made, [*held[0], *tokens(9, 8)])
    assert overwritten.cached_tokens == 80  # slot 0 held it, and the store got it
    assert made.runs("write") == [(0, 80)]
    assert overwritten.token_ids == one(overwritten.request).token_ids


def test_what_is_overwritten_is_stored_only_if_nobody_else_holds_it(bench, tokens):
    made = bench(1, prefix_bytes=1 << 20)
    system = tokens(100)
    run(made, [*system, *tokens(10, 1)])
    assert made.scheduler.counts().stored_bytes == 0
    run(made, [*system, *tokens(10, 2)])  # only 10 positions of the first are lost
    assert made.scheduler.counts().stored_bytes == 0
    run(made, tokens(200, 3))
    assert made.scheduler.counts().stored_bytes == 110 * KV_BYTES
    run(made, [*system, *tokens(10, 2), *tokens(90, 4)])
    assert made.scheduler.counts().stored_bytes == 200 * KV_BYTES  # the slot has taken the 110 back


def test_a_stored_prefix_of_another_one_leaves(bench, tokens):
    made = bench(1, prefix_bytes=1 << 20)
    long, other = tokens(300), tokens(100, 1)
    run(made, long[:100])
    run(made, other)
    assert made.scheduler.counts().stored_bytes == 100 * KV_BYTES
    run(made, long)
    run(made, other)
    assert made.scheduler.counts().stored_bytes == 300 * KV_BYTES


def test_the_store_has_a_limit_and_the_least_recently_used_leaves(bench, tokens):
    made = bench(1, prefix_bytes=250 * KV_BYTES)
    first, second, third, fourth = (tokens(100, seed) for seed in range(4))
    for prompt in (first, second, third):
        run(made, prompt)
    assert made.scheduler.counts().stored_bytes == 200 * KV_BYTES  # first and second
    assert run(made, [*first[:60], *tokens(40, 9)]).cached_tokens == 60  # which uses the first; third comes in
    assert made.scheduler.counts().stored_bytes == 200 * KV_BYTES
    assert run(made, [*second, *fourth]).cached_tokens == 0
    assert run(made, [*first, *fourth]).cached_tokens == 100


def test_what_is_larger_than_the_store_is_not_stored(bench, tokens):
    made = bench(1, prefix_bytes=99 * KV_BYTES)
    run(made, tokens(100))
    run(made, tokens(50, 1))
    assert made.scheduler.counts().stored_bytes == 0
    run(made, tokens(50, 2))
    assert made.scheduler.counts().stored_bytes == 50 * KV_BYTES


def test_the_store_has_a_limit_of_entries(bench, tokens):
    made = bench(1, prefix_bytes=1 << 30)
    for seed in range(STORED_ENTRIES + 5):
        run(made, tokens(2 * LEAST_STORED, seed), 1)
    assert made.scheduler.counts().stored_bytes == STORED_ENTRIES * 2 * LEAST_STORED * KV_BYTES


def test_no_store(bench, alone, tokens):
    made = bench(1, prefix_bytes=0)
    first = tokens(100)
    run(made, first)
    run(made, tokens(100, 1))
    again = run(made, first)
    assert again.cached_tokens == 0
    assert again.token_ids == alone()(again.request).token_ids


def test_a_failed_copy_fails_its_request_and_is_not_trusted(bench, alone, tokens, monkeypatch):
    made, one = bench(2), alone()
    shared = tokens(90)
    first = made.add([*shared, *tokens(9, 1)], 40)
    made.steps(2)

    def broken(*_):
        raise MemoryError("no memory")

    with monkeypatch.context() as patch:
        patch.setattr(made.session, "copy", broken)
        second = made.add([*shared, *tokens(9, 2)], 5)
        pieces = made.finish(second)[second]
    assert pieces[-1].finish_reason == "error"
    assert "MemoryError" in str(pieces[-1].error)
    third = run(made, [*shared, *tokens(9, 3)])
    for ticket in (first, third):
        assert ticket.token_ids == one(ticket.request).token_ids


@pytest.mark.parametrize("options", [EVERYTHING, {"even_chunks": True, "prefix_bytes": 3000}, {"prefix_bytes": 0}])
@pytest.mark.parametrize("seed", range(3))
def test_random_conversations_get_the_tokens_of_each_alone(bench, alone, tokens, options, seed):
    """Requests begin with any earlier prompt or conversation, cut anywhere, and are cancelled at random."""
    random = np.random.default_rng(seed)
    made, one = bench(5, queue=200, **options), alone()
    known, tickets, cancelled = [tokens(50, 90 + seed)], [], set()
    for _ in range(150):
        base = known[random.integers(len(known))]
        prompt = [*base[: random.integers(len(base) + 1)], *random.integers(0, 50, random.integers(1, 60)).tolist()]
        ticket = made.add(prompt[-700:], int(random.integers(1, 40)))
        tickets.append(ticket)
        made.steps(int(random.integers(0, 12)))
        if random.random() < 0.2:
            victim = tickets[random.integers(len(tickets))]
            made.scheduler.cancel(victim)
            cancelled.add(victim)
        if ticket.token_ids:
            known.append([*ticket.request.prompt.token_ids, *ticket.token_ids])
    made.finish()
    for ticket in tickets:
        expected = one(ticket.request).token_ids
        assert ticket.token_ids == expected[: len(ticket.token_ids)]
        assert ticket in cancelled or len(ticket.token_ids) == len(expected)
    assert sum(ticket.cached_tokens for ticket in tickets) > 1000
