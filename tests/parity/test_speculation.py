"""Speculation on the bundled demo: the very tokens of plain decoding, whose own are transformers' `generate()`."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from minimind_edge.export.bundled import bundled_checkpoint
from minimind_edge.minimind import load_checkpoint
from minimind_edge.runtime import Engine, SamplingParams, generate
from minimind_edge.runtime import speculation as module
from minimind_edge.runtime.errors import PromptError

GREEDY = SamplingParams(greedy=True)
PARAMS = [
    GREEDY,
    SamplingParams(temperature=0.9, top_p=0.95, seed=1),
    SamplingParams(temperature=1.2, top_k=40, repetition_penalty=1.1, seed=2),
]
TEXT = (
    "The garden behind the old house was long and narrow, with a path that led from the kitchen door to a wooden gate."
)
MESSAGES = [
    "法国的首都是哪里？",
    "Tell me a story about a fox.",
    f"Repeat this: {TEXT}",
    "讲一个关于小猫的故事。",
]


@pytest.fixture(scope="module", params=[("ort", False), ("portable", False), ("ort", True)], ids=str)
def engine(request, export_demo):
    target, moe = request.param
    artifact = export_demo(target=target, moe=True) if moe else export_demo(target=target)
    engine = Engine.load(artifact, device="cpu", threads=1, max_length=600)
    assert engine.speculates
    engine.is_moe = moe
    return engine


@pytest.fixture
def generous_drafts(monkeypatch):
    """Draft seven tokens at any match: the clock would try less, and the test would prove less."""

    monkeypatch.setattr(module.DraftBudget, "affordable", property(lambda budget: 7 if budget._step_s else 0))


def prompts(engine):
    rows = [list(engine.prompts.build(message).token_ids) for message in MESSAGES]
    text = engine.tokenizer.encode(TEXT, add_special_tokens=False)
    return [*rows, text * 3 + text[:5]]


def tokens(engine, prompt, params, count, *, speculate, stops=()):
    generation = generate(engine.session, [prompt], params, count, stops, speculate=speculate)
    return [(step.token_ids[0], step.finish_reasons[0]) for step in generation], generation.timings


@pytest.mark.parametrize("params", PARAMS, ids=str)
@pytest.mark.usefixtures("generous_drafts")
def test_token_for_token(engine, params):
    accepted = 0
    for prompt in prompts(engine):
        plain, _ = tokens(engine, prompt, params, 60, speculate=False)
        found, timings = tokens(engine, prompt, params, 60, speculate=True)
        assert found == plain
        accepted += timings.accepted
        stop = plain[30][0]
        before = plain[: [token for token, _ in plain].index(stop)]
        stopped = tokens(engine, prompt, params, 60, speculate=True, stops=[stop])[0]
        assert stopped == [*before, (stop, "stop")]
    assert accepted > 30, "without accepted drafts nothing would have been tested"


@pytest.mark.usefixtures("generous_drafts")
def test_greedy_equals_transformers(engine):
    model = load_checkpoint(bundled_checkpoint(moe=engine.is_moe))
    for prompt in prompts(engine)[::2]:
        with torch.no_grad():
            expected = model.generate(torch.tensor([prompt]), max_new_tokens=48, do_sample=False, eos_token_id=None)
        assert [token for token, _ in tokens(engine, prompt, GREEDY, 48, speculate=True)[0]] == expected[
            0, len(prompt) :
        ].tolist()


@pytest.mark.usefixtures("generous_drafts")
def test_the_end_of_the_context(engine):
    text = engine.tokenizer.encode(TEXT, add_special_tokens=False)
    prompt = (text * 300)[: engine.session.max_length - 30]
    plain, _ = tokens(engine, prompt, GREEDY, 100, speculate=False)
    assert tokens(engine, prompt, GREEDY, 100, speculate=True)[0] == plain
    assert (len(plain), plain[-1][1]) == (31, "length")


def test_logits_of_several_tokens_are_those_of_single_steps(engine):
    """The bound behind `changes_no_token`: float32's last digits."""
    prompt = np.array([prompts(engine)[2]])
    session = engine.session
    session.reset()
    session.prefill(prompt[:, :8])
    single = np.stack([session.decode(prompt[:, slot])[0].copy() for slot in range(8, 40)])
    for size in (2, 5, 16):
        session.truncate(8)
        rows = [session.forward(prompt[:, start : min(start + size, 40)])[0].copy() for start in range(8, 40, size)]
        assert np.abs(np.concatenate(rows) - single).max() < 1e-5 * np.abs(single).max()
    with pytest.raises(PromptError, match="2; reset first"):
        session.forward(np.zeros((2, 3), np.int64))
