"""Speculation against plain decoding, on sessions that repeat themselves."""

from __future__ import annotations

import numpy as np
import pytest

from minimind_edge.runtime import speculation
from minimind_edge.runtime.decode import generate
from minimind_edge.runtime.errors import UsageError
from minimind_edge.runtime.sampling import SamplingParams

GREEDY = SamplingParams(greedy=True)
SAMPLED = [
    SamplingParams(temperature=2.0, seed=1),
    SamplingParams(temperature=1.3, top_k=5, top_p=0.9, min_p=0.01, repetition_penalty=1.2, seed=2),
    SamplingParams(greedy=True, repetition_penalty=1.4),
]


@pytest.fixture(params=[1, 2, 3, 7])
def eager_drafts(request, monkeypatch):
    """So many tokens are drafted wherever there is a match, whatever the clock says."""

    class Always:
        affordable = request.param

        def took_step(self, seconds, *, rolled_back):
            assert seconds >= 0

        def took_draft(self, seconds, drafted):
            assert drafted > 0

        def judged(self, drafted, right):
            assert 0 <= right <= drafted

    monkeypatch.setattr(speculation, "DraftBudget", Always)
    return request.param


@pytest.fixture
def make_repeating(make_session):
    class Repeating(make_session):
        """Writes 0 to 8 again and again, but for a slip now and then; logits with some spread to sample from."""

        def __init__(self, max_length=400):
            super().__init__(vocab_size=24, max_length=max_length)

        def _append(self, slots):
            super()._append(slots)
            logits = np.stack([np.cos(np.arange(24) * (row[-1] + 1)) for row in self.rows]).astype(np.float32)
            for index, row in enumerate(self.rows):
                following = (row[-1] + 1) % 9 if len(row) % 31 else (row[-1] * 5 + len(row)) % 9
                logits[index, following] = 5
            return logits

    return Repeating


def run(session, prompt, params, count, stops=(), *, speculate):
    generation = generate(session, [prompt], params, count, stops, speculate=speculate)
    return list(generation), session.rows[0], generation.timings


@pytest.mark.parametrize("params", [GREEDY, *SAMPLED], ids=str)
@pytest.mark.parametrize("prompt", [[3], [0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 1], [5, 5, 5]], ids=len)
def test_the_same_steps_and_the_same_cache(make_repeating, eager_drafts, params, prompt):
    steps, held, _ = run(make_repeating(), prompt, params, 120, speculate=False)
    found, held_after, timings = run(make_repeating(), prompt, params, 120, speculate=True)
    assert found == steps
    assert held_after == held
    assert 0 < timings.accepted <= timings.drafted
    assert timings.decode_steps == 119


@pytest.mark.parametrize("count", range(1, 24))
def test_the_most_new_tokens_are_kept_to(make_repeating, eager_drafts, count):
    session = make_repeating()
    prompt = [0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 1]
    expected = run(make_repeating(), prompt, GREEDY, count, speculate=False)
    assert run(session, prompt, GREEDY, count, speculate=True)[:2] == expected[:2]
    runs = [tokens for call, *tokens in session.calls if call in ("decode", "forward")]
    assert session.length == len(prompt) + count - 1
    assert len(runs) <= count - 1


@pytest.mark.parametrize("room", range(11, 32))
def test_the_end_of_the_context_is_kept_to(make_repeating, eager_drafts, room):
    prompt = [0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 1]
    expected = run(make_repeating(room), prompt, GREEDY, 100, speculate=False)
    assert run(make_repeating(room), prompt, GREEDY, 100, speculate=True)[:2] == expected[:2]
    assert expected[0][-1].finish_reasons == ("length",)


@pytest.mark.parametrize("stop", range(9))
def test_a_stop_token_inside_a_draft(make_repeating, eager_drafts, stop):
    prompt = [0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 1]
    expected = run(make_repeating(), prompt, GREEDY, 100, [stop], speculate=False)
    assert run(make_repeating(), prompt, GREEDY, 100, [stop], speculate=True)[:2] == expected[:2]
    assert expected[0][-1].finish_reasons == ("stop",)


@pytest.mark.parametrize("taken", [1, 2, 5, 20])
def test_closing_leaves_what_was_given_out(make_repeating, eager_drafts, taken):
    session = make_repeating()
    prompt = [0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 1]
    generation = generate(session, [prompt], GREEDY, 100, speculate=True)
    given = [next(generation).token_ids[0] for _ in range(taken)]
    generation.close()
    assert session.rows[0] == [*prompt, *given][:-1]


@pytest.mark.parametrize("call", [12, 13, 17, 30])
def test_ctrl_c_leaves_a_prefix(make_repeating, eager_drafts, call):
    session = make_repeating()
    session.fail_in = call
    prompt = [0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 1]
    given = []
    with pytest.raises(KeyboardInterrupt):
        given.extend(step.token_ids[0] for step in generate(session, [prompt], GREEDY, 100, speculate=True))
    text = prompt + [step.token_ids[0] for step in generate(make_repeating(), [prompt], GREEDY, 100)]
    assert session.rows[0] == text[: session.length]


def test_a_cached_prefix_counts_for_the_drafts_too(make_repeating, eager_drafts):
    session = make_repeating()
    prompt = [0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 1]
    session.prefill(np.array([prompt[:6]]))
    generation = generate(session, [prompt], GREEDY, 30, cached_length=6, speculate=True)
    assert [step.token_ids[0] for step in generation] == [
        step.token_ids[0] for step in generate(make_repeating(), [prompt], GREEDY, 30)
    ]
    assert generation.timings.accepted > 0


def test_time_decides_what_is_tried_and_not_what_comes_out(make_repeating):
    """With the lengths that the real clock leads to, which differ from run to run."""
    for seed in range(20):
        params = SamplingParams(temperature=1.0, seed=seed)
        expected = run(make_repeating(), [0, 1, 2, 0, 1], params, 150, speculate=False)
        assert run(make_repeating(), [0, 1, 2, 0, 1], params, 150, speculate=True)[:2] == expected[:2]


def test_a_batch_and_a_session_that_cannot_verify_are_refused(make_repeating):
    with pytest.raises(UsageError, match="single prompt"):
        generate(make_repeating(), [[1], [2]], GREEDY, 4, speculate=True)
    session = make_repeating()
    session.gives_all_logits = False
    with pytest.raises(UsageError, match="logits of every token"):
        generate(session, [[1]], GREEDY, 4, speculate=True)
