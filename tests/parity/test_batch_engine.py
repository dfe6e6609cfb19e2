"""Continuous batching on the bundled demo: each text is that of its request alone, whatever runs at the same time."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from graph_files import write_graph
from graph_rows import eager_greedy
from rounded_weights import quantized

from minimind_edge.export.bundled import bundled_checkpoint
from minimind_edge.minimind import load_checkpoint
from minimind_edge.runtime import Engine
from minimind_edge.runtime.batch.engine import BatchEngine
from minimind_edge.runtime.batch.loading import load_slots
from minimind_edge.runtime.model_text import ModelText

MAX_LENGTH = 512
SYSTEM = "You are a helpful assistant. You answer briefly, in the language of the question, and never make things up."
QUESTIONS = ("Who are you?", "法国的首都是哪里？", "Tell me a story about a fox.", "讲一个关于小猫的故事。", "Why?")


@pytest.fixture(scope="module")
def model() -> Any:
    return load_checkpoint(bundled_checkpoint(moe=False))


@pytest.fixture(scope="module")
def artifact(export_demo: Callable[..., Path]) -> Path:
    return export_demo(target="ort", max_length=MAX_LENGTH)


def conversations(count, seed):
    """Messages of conversations that share beginnings, as the turns of chats and their system prompts do."""
    choose = random.Random(seed)
    histories = [[{"role": "system", "content": SYSTEM}]]
    for _ in range(count):
        question = {"role": "user", "content": choose.choice(QUESTIONS)}
        history = [*choose.choice(histories), question]
        answer = {"role": "assistant", "content": "我不知道。" * choose.randint(1, 6)}
        histories.append([*history, answer])
        yield history


def sampling(index):
    """Options with a seed; every fourth request is greedy."""
    if index % 4 == 0:
        return {"greedy": True}
    return {"temperature": 0.7 + 0.1 * (index % 5), "top_p": 0.95, "top_k": 40 * (index % 2), "seed": index}


def answers(engine, requests):
    """The text, token ids and finish reason of each request, all given to a running batch."""
    texts = {id(each): "" for each in requests}
    tickets = {}
    for ticket, piece in engine.generate_all(requests):
        texts[id(ticket.request)] += piece.text
        if piece.finish_reason:
            assert piece.error is None
            tickets[id(ticket.request)] = (ticket, piece.finish_reason)
    results = []
    for each in requests:
        ticket, reason = tickets[id(each)]
        results.append((texts[id(each)], ticket.token_ids, reason))
    return results


@pytest.fixture(scope="module")
def alone(artifact: Path) -> Engine:
    return Engine.load(artifact, device="cpu", threads=1, max_length=MAX_LENGTH)


@pytest.mark.parametrize("options", [{}, {"prefix_cache_mib": 0}, {"invariant": False}], ids=str)
def test_texts_are_those_of_an_engine_alone(artifact, alone, options):
    batch = BatchEngine.load(artifact, slots=5, device="cpu", threads=1, max_length=MAX_LENGTH, **options)
    asked = list(enumerate(conversations(24, seed=3)))
    requests = [
        batch.request(messages, max_new_tokens=10 + 7 * index % 40, stop=["。"][: index % 2], **sampling(index))
        for index, messages in asked
    ]
    reasons = set()
    for (index, messages), request, found in zip(asked, requests, answers(batch, requests), strict=True):
        expected = alone.generate(
            messages, max_new_tokens=request.max_new_tokens, stop=["。"][: index % 2], **sampling(index)
        )
        assert found == (expected.text, expected.token_ids, expected.finish_reason)
        reasons.add(expected.finish_reason)
    assert reasons == {"stop", "length"}
    counts = batch.counts()
    assert 3 * counts.cached_tokens > counts.prompt_tokens
    assert counts.generated_tokens > 300


def test_greedy_tokens_are_those_of_eager_pytorch(artifact, model):
    batch = BatchEngine.load(artifact, slots=3, device="cpu", threads=1, max_length=MAX_LENGTH)
    requests = [
        batch.request(messages, max_new_tokens=10, greedy=True, ignore_eos=True)
        for messages in conversations(5, seed=1)
    ]
    for request, (_, token_ids, _) in zip(requests, answers(batch, requests), strict=True):
        assert token_ids == eager_greedy(model, request.prompt.token_ids, 10)
    assert batch.counts().cached_tokens > 0


@pytest.fixture(scope="module", params=["fp32", "int8", "int4"])
def graph(request: pytest.FixtureRequest, model: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bool]:
    """A graph of the demo, and whether its weights are quantized."""
    bits = {"int8": 8, "int4": 4}.get(request.param)
    matrices = None if bits is None else quantized(model, bits, 64)
    folder = tmp_path_factory.mktemp(request.param)
    return write_graph(folder, model, "ort", request.param, MAX_LENGTH, quantized=matrices), bits is not None


def turns(seed):
    """Prompts of several turns, made from the answers to those before: `send` them, first None."""
    choose = random.Random(seed)
    prompts = [[choose.randrange(3, 900) for _ in range(length)] for length in (60, 1, 33, 97, 64, 2)]
    prompts += [[*prompts[0], *prompts[index]] for index in (1, 2, 3)]
    for _ in range(3):
        answers = yield prompts
        prompts = [
            [*prompt, *answer, *(choose.randrange(3, 900) for _ in range(choose.choice((1, 2, 20, 31))))]
            for prompt, answer in zip(prompts, answers, strict=True)
        ]


def asked(engine, index, prompt):
    return engine.request(prompt, temperature=0.9, seed=index, max_new_tokens=3 + 5 * index % 13, top_logprobs=0)


def logprobs(engine, requests):
    """Tokens and their log probabilities, which are the same bits only where the logits are."""
    found = {id(each): [] for each in requests}
    for ticket, piece in engine.generate_all(requests):
        assert piece.error is None
        found[id(ticket.request)] += [(each.token_id, each.logprob) for each in piece.logprobs]
    return [found[id(each)] for each in requests]


def test_logits_are_the_same_bits_whatever_runs_at_the_same_time_or_ran_before(graph):
    path, even = graph
    load = partial(load_slots, path, max_length=MAX_LENGTH, threads=1, device="cpu", even_rows=even)
    single = load(slots=1)
    engines = [
        BatchEngine(load(slots=slots), ModelText(), even_chunks=even, **options)
        for slots, options in ((2, {}), (3, {"step_ms": 0.01}), (5, {"prefix_cache_mib": 0}))
    ]
    conversation, answers = turns(seed=4), None
    for _ in range(3):
        prompts = conversation.send(answers)
        expected = []
        for index, prompt in enumerate(prompts):
            fresh = BatchEngine(single, ModelText(), even_chunks=even)  # which has no prefix to reuse
            expected += logprobs(fresh, [asked(fresh, index, prompt)])
            assert fresh.counts().cached_tokens == 0
        for engine in engines:
            found = logprobs(engine, [asked(engine, index, prompt) for index, prompt in enumerate(prompts)])
            assert found == expected
        answers = [[token for token, _ in row] for row in expected]
    assert all(engine.counts().cached_tokens > 500 for engine in engines)
