from __future__ import annotations

import time

import numpy as np
import pytest
import torch
import transformers

from minimind_edge.runtime.decode import Step, generate
from minimind_edge.runtime.errors import ContextLengthError, PromptError, UsageError
from minimind_edge.runtime.sampling import SamplingParams

GREEDY = SamplingParams(greedy=True)


def test_greedy_tokens_and_length(session):
    steps = list(generate(session, [[3, 4]], GREEDY, max_new_tokens=3))
    # 31 * 7 + 14 = 231, 31 * 38 + 21 = 1199, 31 * 87 + 28 = 2725, each mod 50
    assert steps == [Step((31,), (None,)), Step((49,), (None,)), Step((25,), ("length",))]
    assert session.rows == [[3, 4, 31, 49]]
    assert session.calls[1:] == [("reset", 1), ("prefill", [[3, 4]]), ("decode", [31]), ("decode", [49])]


def test_a_stop_token_is_given_out_and_ends_the_row(session):
    steps = list(generate(session, [[3, 4]], GREEDY, max_new_tokens=9, stop_token_ids=[49, 2]))
    assert steps[-1] == Step((49,), ("stop",))
    assert len(steps) == 2


def test_stop_wins_over_length(session):
    assert list(generate(session, [[3, 4]], GREEDY, 1, [31])) == [Step((31,), ("stop",))]


def test_rows_of_a_batch_are_padded_and_finish_by_themselves(session):
    prompts = [[3, 4], [8], [1, 2, 3, 4, 5]]
    expected = [session.expected(prompt, 6) for prompt in prompts]
    stop = expected[1][2]
    assert all(stop not in row for row in (expected[0], expected[2]))
    steps = list(generate(session, prompts, GREEDY, max_new_tokens=6, stop_token_ids=[stop]))
    columns = list(zip(*(step.token_ids for step in steps), strict=True))
    assert list(columns[0]) == expected[0]
    assert list(columns[1]) == [*expected[1][:3], None, None, None]
    assert list(columns[2]) == expected[2]
    assert steps[2].finish_reasons == (None, "stop", None)
    assert steps[-1].finish_reasons == ("length", "stop", "length")
    assert ("prefill", [[0, 0, 0, 3, 4], [0, 0, 0, 0, 8], [1, 2, 3, 4, 5]]) in session.calls


def test_the_loop_ends_with_the_last_row(session):
    prompts = [[3, 4], [8]]
    stops = [session.expected(prompts[0], 1)[0], session.expected(prompts[1], 3)[2]]
    steps = list(generate(session, prompts, GREEDY, max_new_tokens=30, stop_token_ids=stops))
    assert len(steps) == 3
    assert steps[-1].finish_reasons == ("stop", "stop")


def test_a_full_cache_ends_with_length(make_session):
    session = make_session(max_length=5)
    steps = list(generate(session, [[1, 2, 3]], GREEDY, max_new_tokens=100))
    # two more tokens fit in the cache, and a third is sampled from the logits of the last one
    assert [step.token_ids[0] for step in steps] == session.expected([1, 2, 3], 3)
    assert [step.finish_reasons[0] for step in steps] == [None, None, "length"]
    assert session.length == 5


def test_a_prompt_that_fills_the_cache_gives_one_token(make_session):
    steps = list(generate(make_session(max_length=3), [[1, 2, 3]], GREEDY, max_new_tokens=100))
    assert [step.finish_reasons for step in steps] == [("length",)]


def test_a_prompt_that_does_not_fit(make_session):
    session = make_session(max_length=3)
    with pytest.raises(ContextLengthError, match="4 tokens, the context holds 3") as raised:
        generate(session, [[1], [1, 2, 3, 4]], GREEDY, max_new_tokens=1)
    assert raised.value.exit_code == 3
    assert session.calls == [("reset", 1)]


@pytest.mark.parametrize(
    ("prompts", "message"),
    [([], "no prompt"), ([[]], "empty"), ([[1], []], "empty"), ([[1, 50]], "unknown token id 50"), ([[-1]], "id -1")],
)
def test_bad_prompts(session, prompts, message):
    with pytest.raises(PromptError, match=message) as raised:
        generate(session, prompts, GREEDY, max_new_tokens=1)
    assert raised.value.exit_code == 3


@pytest.mark.parametrize("limit", [0, -1])
def test_max_new_tokens_out_of_range(session, limit):
    with pytest.raises(UsageError, match=f"max_new_tokens is {limit}"):
        generate(session, [[1]], GREEDY, max_new_tokens=limit)


def test_bias_of_a_token_that_the_model_does_not_have(session):
    with pytest.raises(UsageError, match="logit_bias names token id 50: this model's ids are 0 to 49"):
        generate(session, [[1]], SamplingParams(logit_bias=((50, 1.0),)), max_new_tokens=1)


def test_a_cached_prefix_is_not_run_again(session):
    list(generate(session, [[3, 4, 5]], GREEDY, max_new_tokens=4))
    session.calls.clear()
    prompt = [3, 4, 9, 9]
    steps = list(generate(session, [prompt], GREEDY, max_new_tokens=2, cached_length=2))
    assert session.calls[:2] == [("truncate", 2), ("prefill", [[9, 9]])]
    assert [step.token_ids[0] for step in steps] == session.expected(prompt, 2)


@pytest.mark.parametrize(("prompts", "cached_length"), [([[1, 2]], 2), ([[1, 2]], -1), ([[1, 2], [3, 4]], 1)])
def test_cached_length_out_of_range(session, prompts, cached_length):
    with pytest.raises(UsageError, match="cached_length"):
        generate(session, prompts, GREEDY, max_new_tokens=1, cached_length=cached_length)


def held_is_a_prefix(session, prompt, given):
    everything = [*prompt, *given]
    return session.rows[0] == everything[: session.length] and session.length >= len(everything) - 1


@pytest.mark.parametrize("taken", [1, 2, 5])
def test_closing_leaves_the_session_consistent(session, taken):
    generation = generate(session, [[3, 4]], GREEDY, max_new_tokens=9)
    given = [next(generation).token_ids[0] for _ in range(taken)]
    generation.close()
    generation.close()
    assert held_is_a_prefix(session, [3, 4], given)
    with pytest.raises(StopIteration):
        next(generation)


@pytest.mark.parametrize("call", [2, 3, 6])
def test_ctrl_c_in_a_decode_step_leaves_the_session_consistent(session, call):
    session.fail_in = call
    given = []
    with pytest.raises(KeyboardInterrupt):
        given.extend(step.token_ids[0] for step in generate(session, [[3, 4]], GREEDY, max_new_tokens=20))
    given = session.expected([3, 4], call - 1)
    assert held_is_a_prefix(session, [3, 4], given)


def test_repetition_penalty_counts_prompt_and_answer_but_no_padding(make_session):
    class Rising(make_session):
        """Prefers token 0, then 1, 2, ...; a penalty moves it on to the first that it hasn't seen."""

        def _append(self, slots):
            super()._append(slots)
            return np.tile(np.linspace(2, 1, self.vocab_size, dtype=np.float32), (self.batch_size, 1))

    params = SamplingParams(greedy=True, repetition_penalty=50.0)
    steps = list(generate(Rising(), [[5, 1], [2]], params, max_new_tokens=3))
    assert [step.token_ids for step in steps] == [(0, 0), (2, 1), (3, 3)]


def test_sampling_reproduces_by_seed(make_session):
    def tokens(seed):
        params = SamplingParams(temperature=5.0, seed=seed)
        return [step.token_ids for step in generate(make_session(), [[1], [2]], params, max_new_tokens=8)]

    assert tokens(1) == tokens(1)
    assert tokens(1) != tokens(2)


def test_timings_leave_the_consumer_out(make_session):
    class Slow(make_session):
        def _append(self, slots):
            time.sleep(0.002)
            return super()._append(slots)

    generation = generate(Slow(), [[1]], GREEDY, max_new_tokens=4)
    for _ in generation:
        time.sleep(0.02)
    timings = generation.timings
    assert timings.decode_steps == 3
    assert 0.002 <= timings.prefill_s <= timings.time_to_first_token_s < 0.02
    assert 0.006 <= timings.decode_s < 0.06


class ReferenceSession:
    """transformers' own Llama behind the session protocol, run anew over all tokens at each call."""

    max_length = 64

    def __init__(self, model):
        self.model = model
        self.vocab_size = model.config.vocab_size
        self.reset()

    length = property(lambda self: self.input_ids.shape[1])

    def reset(self, batch_size=1):
        self.input_ids = self.mask = torch.zeros((batch_size, 0), dtype=torch.long)

    def prefill(self, input_ids, attention_mask=None):
        mask = np.ones_like(input_ids) if attention_mask is None else attention_mask
        self.input_ids = torch.cat([self.input_ids, torch.from_numpy(input_ids)], dim=1)
        self.mask = torch.cat([self.mask, torch.from_numpy(mask)], dim=1)
        positions = (self.mask.cumsum(-1) - 1).clamp(min=0)
        with torch.no_grad():
            output = self.model(input_ids=self.input_ids, attention_mask=self.mask, position_ids=positions)
        return output.logits[:, -1].numpy()

    def decode(self, tokens):
        return self.prefill(tokens[:, None])


@pytest.mark.parametrize("penalty", [1.0, 1.5])
def test_greedy_batch_equals_transformers_generate(penalty):
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = transformers.LlamaConfig(vocab_size=60, initializer_range=0.7, eos_token_id=None, pad_token_id=0, **sizes)
    model = transformers.LlamaForCausalLM(config).eval()
    prompts = [[5, 9, 12, 3], [7, 7], [30, 1, 2, 3, 4, 5, 6]]
    padded = torch.tensor([[0] * (7 - len(row)) + row for row in prompts])
    mask = torch.tensor([[0] * (7 - len(row)) + [1] * len(row) for row in prompts])
    free = model.generate(padded, attention_mask=mask, max_new_tokens=12, do_sample=False, repetition_penalty=penalty)
    eos = int(free[1, 7 + 4])
    limits = {"max_new_tokens": 12, "eos_token_id": eos, "do_sample": False, "repetition_penalty": penalty}
    expected = model.generate(padded, attention_mask=mask, **limits)[:, 7:].tolist()
    params = SamplingParams(greedy=True, repetition_penalty=penalty)
    steps = list(generate(ReferenceSession(model), prompts, params, max_new_tokens=12, stop_token_ids=[eos]))
    rows = [[token or 0 for token in column] for column in zip(*(step.token_ids for step in steps), strict=True)]
    assert rows == expected
    assert len({token for row in rows for token in row}) > 8
