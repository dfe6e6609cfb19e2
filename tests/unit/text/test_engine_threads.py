"""Two threads on one engine: right answers or an error that says what to do, never a mixture of both texts."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from minimind_edge.runtime import Engine
from minimind_edge.runtime.artifact.generation_config import GenerationConfig
from minimind_edge.runtime.errors import EngineBusyError
from minimind_edge.runtime.sampling import SamplingParams

GREEDY = SamplingParams(greedy=True)


@pytest.fixture
def session(make_session, tokenizer):
    return make_session(vocab_size=tokenizer.vocab_size, max_length=300)


@pytest.fixture
def engine(session, tokenizer):
    return Engine(session, tokenizer, None, GenerationConfig(max_new_tokens=20))


def test_a_second_thread_is_told_while_the_first_one_waits_for_a_token(engine, session, monkeypatch):
    started, may_go_on = threading.Event(), threading.Event()
    decode = session.decode

    def slow(tokens):
        started.set()
        assert may_go_on.wait(30)
        return decode(tokens)

    monkeypatch.setattr(session, "decode", slow)
    expected = session.expected([3, 4], 20)
    with ThreadPoolExecutor(1) as other:
        first = other.submit(engine.generate, [3, 4], params=GREEDY)
        assert started.wait(30)
        with pytest.raises(EngineBusyError, match="serves one caller at a time: take turns by a lock"):
            engine.generate([5, 6], params=GREEDY)
        may_go_on.set()
        assert first.result().token_ids == expected
    assert engine.generate([3, 4], params=GREEDY).token_ids == expected


def test_a_text_that_another_thread_cut_off_does_not_pass_for_a_whole_one(engine):
    first = engine.stream([3, 4], params=GREEDY)
    next(first)
    with ThreadPoolExecutor(1) as other:
        other.submit(engine.stream, [5, 6], params=GREEDY).result()
    with pytest.raises(EngineBusyError):
        list(first)


def test_threads_that_take_turns_get_their_answers(engine, session):
    lock = threading.Lock()

    def ask(number):
        with lock:
            return engine.generate([3, number], params=GREEDY).token_ids

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(ask, range(40)))
    assert answers == [session.expected([3, number], 20) for number in range(40)]


def test_threads_that_take_no_turns_get_the_right_answer_or_the_error(engine, session):
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)

    def ask(number):
        try:
            return engine.generate([3, number], params=GREEDY).token_ids
        except EngineBusyError:
            return "busy"

    try:
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(ask, range(300)))
    finally:
        sys.setswitchinterval(interval)
    assert all(answer in ("busy", session.expected([3, number], 20)) for number, answer in enumerate(answers))
    assert any(answer != "busy" for answer in answers)
