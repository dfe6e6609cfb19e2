"""Requests to a scheduler or an engine over the toy model, and the answers that an `Engine` gives to each alone."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import tokenizers
from toy_slots import ToySession, ToySlots

from minimind_edge.runtime.artifact.tokenizer_config import JsonObject
from minimind_edge.runtime.batch.request import BatchRequest, Ticket
from minimind_edge.runtime.batch.scheduler import Scheduler
from minimind_edge.runtime.engine import Engine
from minimind_edge.runtime.sampling import SamplingParams
from minimind_edge.runtime.text.prompt import Prompt
from minimind_edge.runtime.text.tokenizer import Tokenizer

GREEDY = SamplingParams(greedy=True)


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory) -> Tokenizer:
    """A byte-level tokenizer whose tokens are bytes and a few longer pieces, so that characters span tokens."""
    backend = tokenizers.Tokenizer(tokenizers.models.BPE())
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(["the lazy dog and the quick fox", "你好，世界"], trainer)
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    backend.save(str(path))
    return Tokenizer.load(path, JsonObject({"eos_token": "<|im_end|>"}, "tokenizer_config.json"))


def request(prompt, count=8, *, params=GREEDY, **fields) -> BatchRequest:
    return BatchRequest(Prompt(tuple(prompt)), params, count, **fields)


def tokens(count, seed=0, vocab_size=50):
    """A prompt of random tokens."""
    return np.random.default_rng(seed).integers(0, vocab_size, count).tolist()


def finish(scheduler, *tickets, most=2000):
    """Run steps until nothing is left to do, and return the pieces of each ticket."""
    pieces = {ticket: [] for ticket in tickets}
    for _ in range(most):
        if scheduler.is_idle:
            return pieces
        for ticket, piece in scheduler.step():
            pieces.setdefault(ticket, []).append(piece)
    raise AssertionError("the scheduler does not come to an end")


class Bench:
    """A scheduler over the toy model."""

    def __init__(self, slots=4, tokenizer=None, *, max_length=1024, vocab_size=50, logits=None, **options):
        self.session = ToySlots(slots, max_length, vocab_size, logits)
        self.scheduler = Scheduler(self.session, tokenizer, **options)

    def add(self, *arguments, **fields) -> Ticket:
        """Add a request; takes the arguments of `request`."""
        asked = arguments[0] if isinstance(arguments[0], BatchRequest) else request(*arguments, **fields)
        self.scheduler.check(asked)
        ticket = Ticket(asked)
        self.scheduler.add(ticket)
        return ticket

    def steps(self, count):
        return list(itertools.chain.from_iterable(self.scheduler.step() for _ in range(count)))

    def finish(self, *tickets):
        return finish(self.scheduler, *tickets)

    def runs(self, kind):
        return [call[1:] for call in self.session.calls if call[0] == kind]


class Alone:
    """What `Engine.generate` answers to a request alone."""

    def __init__(self, tokenizer=None, *, max_length=1024, vocab_size=50, logits=None):
        self.engine = Engine(ToySession(max_length, vocab_size, logits), tokenizer)

    def __call__(self, asked: BatchRequest):
        engine = self.engine
        engine.stop_token_ids = tuple(asked.stop_token_ids)
        return engine.generate(
            asked.prompt, params=replace(asked.params), max_new_tokens=asked.max_new_tokens, stop=asked.stop
        )


@pytest.fixture
def bench():
    """Make a scheduler over the toy model: `bench(slots=4, tokenizer=None, **options of ToySlots and Scheduler)`."""
    return Bench


@pytest.fixture
def alone():
    """Make the engine that answers a request alone: `alone(tokenizer=None, **options of ToySession)(request)`."""
    return Alone


@pytest.fixture(name="request_of")
def _request_of():
    return request


@pytest.fixture(name="tokens")
def _tokens():
    return tokens


@pytest.fixture(name="finish")
def _finish():
    return finish
