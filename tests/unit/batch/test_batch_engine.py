"""The engine's thread: submissions and cancellations from other threads, closing, and failures outside of the model."""

from __future__ import annotations

import logging
import random
import threading
from collections import defaultdict

import pytest
from toy_slots import ToySlots

from minimind_edge.runtime.artifact.generation_config import GenerationConfig
from minimind_edge.runtime.batch.engine import BatchEngine
from minimind_edge.runtime.errors import (
    ContextLengthError,
    EngineClosedError,
    PromptError,
    QueueFullError,
    UsageError,
)
from minimind_edge.runtime.model_text import ModelText
from minimind_edge.runtime.sampling import SamplingParams

PATIENCE_S = 60


class Receiver:
    """Collects what the engine delivers, and waits for ends."""

    def __init__(self):
        self.pieces = defaultdict(list)
        self.threads = set()
        self._changed = threading.Condition()

    def __call__(self, pieces):
        with self._changed:
            self.threads.add(threading.current_thread())
            for ticket, piece in pieces:
                self.pieces[ticket].append(piece)
            self._changed.notify_all()

    def reason(self, ticket):
        return self.pieces[ticket][-1].finish_reason if self.pieces[ticket] else None

    def wait(self, condition):
        with self._changed:
            assert self._changed.wait_for(condition, PATIENCE_S)

    def wait_for(self, *tickets):
        self.wait(lambda: all(self.reason(ticket) for ticket in tickets))


class Gate(ToySlots):
    """Slots whose runs wait at a gate."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.gate = threading.Event()
        self.fail = lambda *_: self.gate.wait(PATIENCE_S)


@pytest.fixture
def open_engine():
    """Make an engine that is closed after the test."""
    engines = []

    def make(session=None, text=None, **options):
        engines.append(BatchEngine(session or ToySlots(3), text or ModelText(), **options))
        return engines[-1]

    yield make
    for engine in engines:
        engine.close(drain=False)


def test_requests_from_this_thread_are_answered_on_the_engines(open_engine, alone, request_of, tokens):
    engine, receiver = open_engine(), Receiver()
    engine.start(receiver)
    tickets = [engine.submit(request_of(tokens(9, seed), 20)) for seed in range(7)]
    receiver.wait_for(*tickets)
    for ticket in tickets:
        assert ticket.token_ids == alone()(ticket.request).token_ids
    assert len(receiver.threads) == 1
    assert threading.current_thread() not in receiver.threads
    counts = engine.counts()
    assert (counts.running, counts.waiting, counts.generated_tokens) == (0, 0, 140)


def test_two_hundred_requests_from_threads_that_cancel_at_random(open_engine, alone, request_of, tokens):
    engine, receiver = open_engine(ToySlots(5), queue=40, prefix_cache_mib=1), Receiver()
    engine.start(receiver)
    taken, refused, cancelled, lock = [], [], set(), threading.Lock()

    def client(seed):
        choose = random.Random(seed)
        for index in range(50):
            asked = request_of(
                tokens(choose.randint(1, 80), choose.randint(0, 20)),
                choose.randint(1, 30),
                params=SamplingParams(temperature=1.1, seed=index),
            )
            while True:
                try:
                    ticket = engine.submit(asked)
                    break
                except QueueFullError:
                    refused.append(asked)
                    threading.Event().wait(0.002)
            with lock:
                taken.append(ticket)
                if choose.random() < 0.3:
                    victim = choose.choice(taken)
                    cancelled.add(victim)
                    engine.cancel(victim)

    threads = [threading.Thread(target=client, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    receiver.wait_for(*taken)
    engine.close(drain=True)
    assert len(taken) == 200
    one = alone()
    for ticket in taken:
        reasons = [piece.finish_reason for piece in receiver.pieces[ticket] if piece.finish_reason]
        assert len(reasons) == 1
        assert [token for piece in receiver.pieces[ticket] for token in piece.token_ids] == ticket.token_ids
        expected = one(ticket.request).token_ids
        assert ticket.token_ids == expected[: len(ticket.token_ids)]
        assert len(ticket.token_ids) == len(expected) or (reasons == ["cancelled"] and ticket in cancelled)
    assert engine.counts()[:2] == (0, 0)


def test_the_queue_limit_is_told_at_once(open_engine, request_of, tokens):
    session = Gate(2)
    engine, receiver = open_engine(session, queue=1), Receiver()
    engine.start(receiver)
    tickets = [engine.submit(request_of(tokens(5, seed), 3)) for seed in range(3)]
    with pytest.raises(QueueFullError):
        engine.submit(request_of(tokens(5), 3))
    session.gate.set()
    receiver.wait_for(*tickets)
    receiver.wait_for(engine.submit(request_of(tokens(5), 3)))


def test_bad_requests_are_told_at_once(open_engine, request_of):
    engine = open_engine(ToySlots(1, 16))
    for prompt, fields, error in (
        ([], {}, PromptError),
        ([77], {}, PromptError),
        ([1] * 17, {}, ContextLengthError),
        ([1], {"stop": ("x",)}, UsageError),
    ):
        with pytest.raises(error):
            engine.submit(request_of(prompt, 5, **fields))
    assert engine.counts().waiting == 0


def test_closing_with_drain_answers_what_was_taken(open_engine, alone, request_of, tokens):
    session = Gate(2)
    engine, receiver = open_engine(session), Receiver()
    engine.start(receiver)
    tickets = [engine.submit(request_of(tokens(5, seed), 10)) for seed in range(6)]
    closing = threading.Thread(target=engine.close, kwargs={"drain": True})
    closing.start()
    while True:
        try:
            engine.submit(request_of(tokens(5), 1))
        except EngineClosedError:
            break
        except QueueFullError:
            pass
    session.gate.set()
    closing.join(PATIENCE_S)
    assert not closing.is_alive()
    for ticket in tickets:
        assert receiver.reason(ticket) == "length"
        assert ticket.token_ids == alone()(ticket.request).token_ids


def test_closing_without_drain_cancels(open_engine, request_of, tokens):
    session = Gate(2)
    engine, receiver = open_engine(session), Receiver()
    engine.start(receiver)
    tickets = [engine.submit(request_of(tokens(5, seed), 500)) for seed in range(4)]
    threading.Timer(0.05, session.gate.set).start()
    engine.close(drain=False)
    assert [receiver.reason(ticket) for ticket in tickets] == ["cancelled"] * 4
    assert all(len(ticket.token_ids) < 500 for ticket in tickets)
    with pytest.raises(EngineClosedError):
        engine.submit(request_of(tokens(5), 1))
    engine.close(drain=True)
    with pytest.raises(EngineClosedError):
        engine.start(receiver)


def test_a_drain_that_takes_too_long_cancels(open_engine, request_of, tokens):
    session = ToySlots(2, 1 << 20)
    engine, receiver = open_engine(session), Receiver()
    engine.start(receiver)
    ticket = engine.submit(request_of(tokens(5), 1 << 19))
    engine.close(drain=True, timeout_s=0.05)
    assert receiver.reason(ticket) == "cancelled"


def test_an_engine_may_be_closed_by_what_it_delivers_to(open_engine, request_of, tokens):
    engine, ended = open_engine(), threading.Event()

    def deliver(pieces):
        engine.close(drain=False)
        if any(piece.finish_reason for _, piece in pieces):
            ended.set()

    engine.start(deliver)
    engine.submit(request_of(tokens(5), 99))
    assert ended.wait(PATIENCE_S)


def test_an_engine_that_never_started_closes(open_engine, request_of, tokens):
    engine = open_engine()
    engine.submit(request_of(tokens(5), 3))
    engine.close(drain=True)


def test_failures_outside_of_the_model_end_neither_thread_nor_others(
    open_engine, alone, request_of, tokens, caplog, monkeypatch
):
    engine, receiver = open_engine(ToySlots(2)), Receiver()
    scheduler = engine._scheduler
    usual, left = scheduler._run_prompts, [1]

    def broken(share):
        if left and scheduler._running:
            raise LookupError(f"a bug {left.pop()}")
        usual(share)

    monkeypatch.setattr(scheduler, "_run_prompts", broken)
    with caplog.at_level(logging.ERROR):
        engine.start(receiver)
        tickets = [engine.submit(request_of(tokens(5, seed), 9)) for seed in range(6)]
        receiver.wait_for(*tickets)
    reasons = [receiver.reason(ticket) for ticket in tickets]
    assert set(reasons) == {"error", "length"}
    assert "a bug 1" in caplog.text
    for ticket, reason in zip(tickets, reasons, strict=True):
        assert reason == "error" or ticket.token_ids == alone()(ticket.request).token_ids


def test_a_delivery_that_fails_is_logged_and_the_next_one_comes(open_engine, request_of, tokens, caplog):
    engine, receiver = open_engine(), Receiver()
    is_first = [True]

    def deliver(pieces):
        if is_first:
            is_first.clear()
            raise RuntimeError("the event loop is closed")
        receiver(pieces)

    with caplog.at_level(logging.ERROR):
        engine.start(deliver)
        receiver.wait_for(engine.submit(request_of(tokens(5), 9)))
    assert "the event loop is closed" in caplog.text


def test_generate_all_answers_on_this_thread(open_engine, alone, request_of, tokens):
    engine = open_engine(ToySlots(3), queue=2)
    asked = [request_of(tokens(1 + seed, seed), 3 + seed % 7) for seed in range(40)]
    drawn = []
    texts = defaultdict(list)
    for ticket, piece in engine.generate_all(drawn.append(each) or each for each in asked):
        texts[id(ticket.request)] += piece.token_ids
        assert len(drawn) <= sum(len(each) > 0 for each in texts.values()) + 5
    assert [texts[id(each)] for each in asked] == [alone()(each).token_ids for each in asked]


def test_generate_all_may_be_left_early_and_is_no_second_user(open_engine, request_of, tokens):
    engine = open_engine()
    pieces = engine.generate_all(request_of(tokens(5, seed), 50) for seed in range(9))
    next(pieces)
    with pytest.raises(UsageError, match="has been started"):
        engine.start(Receiver())
    pieces.close()
    assert engine.counts()[:2] == (0, 0)
    assert len(list(engine.generate_all([request_of(tokens(5), 4)]))) == 4


def test_a_request_has_the_models_defaults(open_engine, tokenizer):
    config = GenerationConfig(
        eos_token_ids=(7,), max_new_tokens=33, do_sample=True, temperature=0.5, stop_strings=("Q",)
    )
    engine = open_engine(ToySlots(1, 64, tokenizer.vocab_size), ModelText(tokenizer, None, config))
    made = engine.request("Hello", seed=3, stop=["x"])
    assert made.prompt.token_ids == tuple(tokenizer.encode("Hello"))
    assert made.params == SamplingParams(temperature=0.5, seed=3)
    assert (made.max_new_tokens, made.stop_token_ids, made.stop) == (33, {7}, ("Q", "x"))
    other = engine.request([1, 2], ignore_eos=True, max_new_tokens=4, top_logprobs=2)
    assert (other.max_new_tokens, other.stop_token_ids, other.top_logprobs) == (4, frozenset(), 2)
    assert (engine.slots, engine.max_length, engine.vocab_size, engine.queue) == (1, 64, tokenizer.vocab_size, 64)
