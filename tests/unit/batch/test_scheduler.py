from __future__ import annotations

import logging

import numpy as np
import pytest
from toy_slots import toy_logits

from minimind_edge.runtime.errors import (
    ArtifactError,
    ContextLengthError,
    PromptError,
    QueueFullError,
    UsageError,
)
from minimind_edge.runtime.sampling import SamplingParams


def reason_of(pieces):
    """The only finish reason, which the last piece has."""
    assert [piece.finish_reason for piece in pieces[:-1]] == [None] * (len(pieces) - 1)
    return pieces[-1].finish_reason


@pytest.mark.parametrize("even", [False, True])
def test_requests_together_get_the_tokens_of_each_alone(bench, alone, request_of, tokens, even):
    asked = [
        request_of(
            tokens(1 + 37 * index % 301, seed=index),
            3 + 11 * index % 40,
            params=SamplingParams(temperature=0.9, top_k=20, repetition_penalty=1.1, seed=index),
            stop_token_ids=frozenset({7}),
        )
        for index in range(24)
    ]
    made = bench(5, even_chunks=even, queue=24, prefix_bytes=1 << 20)
    tickets = [made.add(each) for each in asked]
    pieces = made.finish(*tickets)
    one = alone()
    for ticket in tickets:
        expected = one(ticket.request)
        assert ticket.token_ids == expected.token_ids
        assert [token for piece in pieces[ticket] for token in piece.token_ids] == expected.token_ids
        assert reason_of(pieces[ticket]) == expected.finish_reason
    assert max(len(slots) for (slots,) in made.runs("decode")) == 5


def test_a_step_decodes_before_it_runs_prompts(bench, tokens):
    made = bench()
    made.add(tokens(20), 50)
    made.steps(2)
    made.session.calls.clear()
    made.add(tokens(300, 1), 5)
    made.steps(1)
    assert made.session.calls == [("decode", [0]), ("prefill", 1, 64)]


def test_a_prompt_runs_in_chunks_of_256_alone_and_of_64_next_to_another(bench, tokens):
    made = bench()
    made.add(tokens(700), 40)
    made.steps(3)
    assert made.runs("prefill") == [(0, 256), (0, 256), (0, 188)]
    made.add(tokens(300, 1), 5)
    made.steps(5)
    assert made.runs("prefill")[3:] == [(1, 64), (1, 64), (1, 64), (1, 64), (1, 44)]


@pytest.mark.parametrize(("rows", "expected"), [(10, 64), (20, 80), (32, 128), (40, 128)])
def test_many_answers_get_longer_chunks_next_to_them(bench, tokens, rows, expected):
    made = bench(48)
    for seed in range(rows):
        made.add(tokens(2, seed), 500)
    while len(made.runs("prefill")) < rows:
        made.steps(1)
    made.add(tokens(600, 99), 5)
    made.steps(2)
    assert made.runs("prefill")[rows:] == [(rows, expected)] * 2


def test_several_short_prompts_share_a_step_and_a_tiny_share_is_left(bench, tokens):
    made = bench(6)
    made.add(tokens(20), 50)
    made.steps(1)
    for seed, length in enumerate((20, 16, 20, 10), start=1):
        made.add(tokens(length, seed), 50)
    made.steps(1)
    assert made.runs("prefill")[1:] == [(1, 20), (2, 16), (3, 20)]  # 8 of 64 are left, too few for the next
    made.steps(1)
    assert made.runs("prefill")[4:] == [(4, 10)]


def test_no_single_token_of_a_prompt_remains(bench, tokens):
    for even, expected in ((False, [(0, 255), (0, 2)]), (True, [(0, 254), (0, 3)])):
        made = bench(even_chunks=even)
        made.add(tokens(257), 1)
        made.finish()
        assert made.runs("prefill") == expected


@pytest.mark.parametrize("length", range(250, 780, 13))
def test_even_chunks_begin_at_even_positions(bench, tokens, length):
    made = bench(even_chunks=True, max_length=1024)
    made.add(tokens(30), 60)
    made.steps(1)
    made.add(tokens(length, 1), 1)
    made.finish()
    chunks = [count for _, count in made.runs("prefill")[1:]]
    assert sum(chunks) == length
    assert all(count % 2 == 0 for count in chunks[:-1])
    assert max(chunks) <= 256


@pytest.mark.parametrize(("step_ms", "expected"), [(50, 50), (1, 16), (10_000, 256)])
def test_a_time_for_prompts_follows_the_measured_rate(bench, tokens, monkeypatch, step_ms, expected):
    """The clock of this test gives every run of n prompt tokens n milliseconds."""
    made = bench(step_ms=step_ms, max_length=2048)
    now = [0.0]
    made.session.fail = lambda kind, *rest: now.__setitem__(0, now[0] + (rest[1] / 1000 if kind == "prefill" else 0))
    monkeypatch.setattr("minimind_edge.runtime.batch.scheduler.perf_counter", lambda: now[0])
    made.add(tokens(100), 90)
    made.steps(1)
    made.add(tokens(1000, 1), 1)
    made.steps(2)
    assert made.runs("prefill") == [(0, 100), (1, expected), (1, expected)]


def test_first_come_first_served_in_the_lowest_free_slot(bench, tokens):
    made = bench(2)
    first, second, third, fourth = (made.add(tokens(10, seed), count) for seed, count in enumerate((9, 3, 3, 3)))
    begun = []
    while not made.scheduler.is_idle:
        made.steps(1)
        begun += [each for each in (first, second, third, fourth) if each.begun_at and each not in begun]
    assert begun == [first, second, third, fourth]
    assert [slot for slot, _ in made.runs("prefill")] == [0, 1, 1, 1]


def test_the_queue_has_a_limit(bench, tokens):
    made = bench(2, queue=1)
    tickets = [made.add(tokens(5, seed), 3) for seed in range(3)]
    assert not made.scheduler.has_room
    with pytest.raises(QueueFullError, match="2 requests run and 1 wait"):
        made.add(tokens(5), 3)
    made.finish(*tickets)
    assert made.scheduler.has_room
    made.add(tokens(5), 3)


def test_a_cancelled_request_leaves_before_the_next_step(bench, tokens):
    made = bench(2)
    running, joining, waiting = made.add(tokens(5), 99), made.add(tokens(500, 1), 9), made.add(tokens(5, 2), 9)
    made.steps(2)
    assert (running.token_ids != [], joining.begun_at > 0, waiting.begun_at) == (True, True, 0)
    for ticket in (running, joining, waiting):
        made.scheduler.cancel(ticket)
    made.session.calls.clear()
    assert [(ticket, piece.finish_reason, piece.token_ids) for ticket, piece in made.scheduler.step()] == [
        (running, "cancelled", ()),
        (joining, "cancelled", ()),
        (waiting, "cancelled", ()),
    ]
    assert made.session.calls == []
    assert made.scheduler.is_idle
    made.scheduler.cancel(running)  # has ended: nothing happens
    assert made.scheduler.is_idle
    assert made.scheduler.counts()[:3] == (0, 0, 2)


def test_the_others_go_on_when_one_is_cancelled(bench, alone, request_of, tokens):
    made = bench(3)
    asked = [request_of(tokens(9, seed), 30) for seed in range(3)]
    tickets = [made.add(each) for each in asked]
    made.steps(5)
    made.scheduler.cancel(tickets[1])
    made.finish(*tickets)
    assert [tickets[index].token_ids for index in (0, 2)] == [alone()(asked[index]).token_ids for index in (0, 2)]
    assert 0 < len(tickets[1].token_ids) < 30


def test_the_context_ends_an_answer(bench, alone, request_of, tokens):
    made = bench(2, max_length=40)
    asked = [request_of(tokens(length, length), 99) for length in (40, 39, 12)]
    tickets = [made.add(each) for each in asked]
    pieces = made.finish(*tickets)
    for ticket, count in zip(tickets, (1, 2, 29), strict=True):
        assert len(ticket.token_ids) == count
        assert ticket.token_ids == alone(max_length=40)(ticket.request).token_ids
        assert reason_of(pieces[ticket]) == "length"


class Countdown:
    """A constraint that is complete with its n-th token."""

    def __init__(self, count):
        self.count = count

    def allowed(self):
        return None

    def accept(self, token_id):
        self.count -= 1
        return self.count == 0


def test_a_complete_constraint_ends_an_answer(bench, tokens):
    made = bench()
    ticket = made.add(tokens(5), 20, constraint=Countdown(4))
    pieces = made.finish(ticket)[ticket]
    assert len(ticket.token_ids) == 4
    assert reason_of(pieces) == "stop"


def test_a_failing_decode_step_fails_its_requests_and_no_other(bench, alone, request_of, tokens):
    made = bench(2, exact_reuse=False)
    broken = [made.add(tokens(40, seed), 30) for seed in range(2)]
    waiting = made.add(request_of(broken[0].request.prompt.token_ids, 6))
    made.steps(4)

    def fail(kind, *_):
        if kind == "decode":
            made.session.fail = lambda *_: None
            raise ArtifactError("the graph failed")

    made.session.fail = fail
    pieces = made.finish(*broken, waiting)
    for ticket in broken:
        assert reason_of(pieces[ticket]) == "error"
        assert str(pieces[ticket][-1].error) == "the graph failed"
        assert len(ticket.token_ids) == 4
    assert waiting.token_ids == alone()(waiting.request).token_ids
    assert waiting.cached_tokens == 0  # what the failed rows held is not trusted
    assert reason_of(pieces[waiting]) == "length"


def test_a_failing_prompt_fails_alone_and_any_error_becomes_one_of_ours(bench, alone, request_of, tokens, caplog):
    made = bench(3)
    running = made.add(request_of(tokens(5), 20))
    made.steps(2)
    broken, after = made.add(tokens(9, 1), 5), made.add(request_of(tokens(9, 2), 5))

    def fail(kind, *_):
        if kind == "prefill":
            made.session.fail = lambda *_: None
            raise ZeroDivisionError("nothing to divide")

    made.session.fail = fail
    with caplog.at_level(logging.ERROR):
        pieces = made.finish(running, broken, after)
    assert reason_of(pieces[broken]) == "error"
    assert isinstance(pieces[broken][-1].error, ArtifactError)
    assert "ZeroDivisionError: nothing to divide" in str(pieces[broken][-1].error)
    assert "nothing to divide" in caplog.text
    for ticket in (running, after):
        assert ticket.token_ids == alone()(ticket.request).token_ids


def test_logits_that_are_not_finite_fail_their_row_alone(bench, alone, request_of, tokens):
    usual, broken = toy_logits(50), np.full(50, np.nan, np.float32)
    made = bench(2, logits=lambda row: broken if row[0] == 49 and len(row) > 12 else usual(row))
    failing, whole = made.add([49, *tokens(9)], 20), made.add(request_of(tokens(10, 3), 20))
    pieces = made.finish(failing, whole)
    assert reason_of(pieces[failing]) == "error"
    assert "not finite" in str(pieces[failing][-1].error)
    assert whole.token_ids == alone()(whole.request).token_ids


def test_the_top_row_moves_into_a_hole_that_stays(bench, alone, request_of, tokens):
    made = bench(6)
    tickets = [made.add(request_of(tokens(10, seed), 5 if seed < 4 else 60)) for seed in range(6)]
    made.finish(*tickets)
    moves = made.runs("copy")
    assert [move[:2] for move in moves] == [(5, 0), (4, 1)]
    assert made.runs("decode")[-1] == ([0, 1],)
    for ticket in tickets:
        assert ticket.token_ids == alone()(ticket.request).token_ids


def test_no_row_moves_where_it_would_not_pay(bench, tokens):
    made = bench(3, even_chunks=True)
    for seed, count in enumerate((40, 5, 40)):
        made.add(tokens(10, seed), count)
    made.finish()
    assert made.runs("copy") == [(2, 1, made.runs("copy")[0][2])]  # two rows instead of the four that three take
    made = bench(2, even_chunks=True)
    for seed, count in enumerate((5, 40)):
        made.add(tokens(10, seed), count)
    made.finish()
    assert made.runs("copy") == []  # one row takes an idle one next to it anyway
    made = bench(2)
    for seed, count in enumerate((5, 13)):
        made.add(tokens(10 if seed == 0 else 600, seed), count)
    made.finish()
    assert made.runs("copy") == []  # 600 positions for the few tokens that are left


def test_requests_that_cannot_run_are_refused(bench, tokenizer, request_of):
    check = bench(max_length=20).scheduler.check
    for prompt, count, fields, error, words in (
        ([], 5, {}, PromptError, "prompt is empty"),
        ([50], 5, {}, PromptError, "unknown token id 50"),
        ([1] * 21, 5, {}, ContextLengthError, "21 tokens, the context holds 20"),
        ([1], 0, {}, UsageError, "max_new_tokens is 0"),
        ([1], 5, {"stop": ("x",)}, UsageError, "need a tokenizer"),
        ([1], 5, {"top_logprobs": -1}, UsageError, "top_logprobs is -1"),
    ):
        with pytest.raises(error, match=words):
            check(request_of(prompt, count, **fields))
    with pytest.raises(UsageError, match="stop string is empty"):
        bench(2, tokenizer).scheduler.check(request_of([1], 5, stop=("x", "")))


def test_options_out_of_range_are_refused(bench):
    for options, words in (
        ({"step_ms": 0}, "step_ms is 0: it must be more than 0"),
        ({"queue": -1}, "queue is -1"),
        ({"prefix_bytes": -1}, "memory for prefixes is -1"),
    ):
        with pytest.raises(UsageError, match=words):
            bench(**options)


def test_counts(bench, tokens):
    made = bench(2, queue=5, max_length=100)
    first = made.add(tokens(20), 3)
    made.add(tokens(10, 1), 50)
    made.add(tokens(10, 2), 50)
    made.steps(2)
    counts = made.scheduler.counts()
    assert (counts.running, counts.waiting, counts.slots) == (2, 1, 2)
    assert (counts.kv_positions, counts.kv_capacity) == (20 + 1 + 10 + 1, 200)
    assert (counts.prompt_tokens, counts.cached_tokens, counts.generated_tokens, counts.steps) == (30, 0, 4, 2)
    assert first.asked_at <= first.begun_at <= first.first_token_at
    assert first.ended_at == 0
    made.finish()
    assert first.first_token_at <= first.ended_at
    assert made.scheduler.counts()[:2] == (0, 0)
    assert made.scheduler.counts().kv_positions == 0
