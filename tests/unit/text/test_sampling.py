from __future__ import annotations

import functools
import itertools

import numpy as np
import pytest
import torch
import transformers

from minimind_edge.runtime.errors import ArtifactError, UsageError
from minimind_edge.runtime.sampling import Sampler, SamplingParams, TokenHistory


@functools.cache
def reference_model():
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(vocab_size=8, **sizes))


def reference_scores(logits, params, history=None):
    """What transformers' generate() draws from: the logits behind the very processors that it builds."""
    config = transformers.GenerationConfig(
        do_sample=True,
        temperature=params.temperature,
        top_k=params.top_k,
        top_p=params.top_p,
        min_p=params.min_p,
        repetition_penalty=params.repetition_penalty,
    )
    input_ids = torch.tensor([[0]] if history is None else [history])
    processors = reference_model()._get_logits_processor(config, input_ids_seq_length=input_ids.shape[1])
    return processors(input_ids, torch.from_numpy(np.array(logits[None])))[0]


def check_against_reference(logits, params, history=None):
    seen = None if history is None else TokenHistory(logits.size, history)
    ids, probabilities = Sampler(params).distribution(logits, seen)
    scores = reference_scores(logits, params, history)
    kept = np.flatnonzero(scores.numpy() > -np.inf)
    np.testing.assert_array_equal(ids[logits[ids] > -np.inf], kept)
    np.testing.assert_allclose(probabilities, torch.softmax(scores, dim=-1).numpy()[ids], rtol=2e-6, atol=1e-9)


GRID = [
    SamplingParams(temperature, top_k, top_p, min_p)
    for temperature, top_k, top_p, min_p in itertools.product(
        (0.3, 1.0, 1.7), (0, 1, 5, 10_000), (0.1, 0.9, 1.0), (0.0, 0.2)
    )
]


@pytest.mark.parametrize("params", GRID, ids=str)
@pytest.mark.parametrize("spread", [0.01, 1.0, 8.0])
def test_distribution_equals_transformers_on_random_logits(params, spread):
    logits = (np.random.default_rng(3).standard_normal(700) * spread).astype(np.float32)
    check_against_reference(logits, params)


ADVERSARIAL = {
    "all equal": np.zeros(10, np.float32),
    "ties at every rank": np.repeat(np.array([3, 2, 1, 0], np.float32), 4),
    "ties out of order": np.array([1, 2, 2, 1, 2, 0, 1, 2, 0, 1], np.float32),
    "one token": np.array([4.0], np.float32),
    "one far ahead": np.array([0, 0, 1e4, 0, -1e4], np.float32),
    "extremes": np.array([3e38, -3e38, 3e38, 0, 1e-45], np.float32),
    "minus infinity": np.array([-np.inf, 1, -np.inf, 2, 0], np.float32),
    "subnormal": np.array([1e-40, 2e-40, 0, -1e-40], np.float32),
}


@pytest.mark.parametrize("logits", ADVERSARIAL.values(), ids=ADVERSARIAL)
@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(),
        SamplingParams(top_k=3),
        SamplingParams(top_k=5),
        SamplingParams(top_k=1000),
        SamplingParams(top_p=0.0),
        SamplingParams(top_p=0.3),
        SamplingParams(top_p=0.5),
        SamplingParams(top_p=0.7),
        SamplingParams(top_p=1.0),
        SamplingParams(min_p=0.5),
        SamplingParams(min_p=1.0),
        SamplingParams(top_k=6, top_p=0.5, min_p=0.4),
    ],
    ids=str,
)
def test_distribution_equals_transformers_on_adversarial_logits(logits, params):
    check_against_reference(logits, params)


@pytest.mark.parametrize("top_p", [0.95, 0.989, 0.995, 0.9999])
@pytest.mark.parametrize("spread", [1.0, 3.0])
@pytest.mark.parametrize("vocab_size", [2047, 2048])
def test_top_p_near_one_equals_transformers(top_p, spread, vocab_size):
    logits = (np.random.default_rng(vocab_size).standard_normal(vocab_size) * spread).astype(np.float32)
    check_against_reference(logits, SamplingParams(top_p=top_p))


@pytest.mark.parametrize("penalty", [0.5, 1.3, 5.0])
@pytest.mark.parametrize("top_p", [0.8, 1.0])
def test_repetition_penalty_equals_transformers(penalty, top_p):
    logits = (np.random.default_rng(5).standard_normal(300) * 4).astype(np.float32)
    params = SamplingParams(temperature=0.8, top_k=40, top_p=top_p, repetition_penalty=penalty)
    check_against_reference(logits, params, history=[1, 7, 7, 299, 12, 1, *range(100, 160)])


def test_repetition_penalty_by_hand():
    # 4 / 2 = 2 and -1 * 2 = -2; the untouched 3 is the largest then
    sampler = Sampler(SamplingParams(greedy=True, repetition_penalty=2.0))
    logits = np.array([[4.0, 3.0, -1.0]], np.float32)
    assert sampler(logits, [TokenHistory(3, [0, 2])]).tolist() == [1]
    assert logits.tolist() == [[4.0, 3.0, -1.0]]


def test_greedy_equals_transformers_for_every_row():
    rng = np.random.default_rng(11)
    logits = rng.standard_normal((6, 500)).astype(np.float32)
    logits[2, [40, 90]] = 50.0
    histories = [rng.integers(0, 500, 30).tolist() for _ in range(6)]
    params = SamplingParams(greedy=True, repetition_penalty=1.8)
    processor = transformers.RepetitionPenaltyLogitsProcessor(1.8)
    expected = processor(torch.tensor(histories), torch.from_numpy(logits.copy())).argmax(dim=-1)
    actual = Sampler(params)(logits, [TokenHistory(500, history) for history in histories])
    assert actual.tolist() == expected.tolist()
    assert actual.dtype == np.int64
    assert Sampler(SamplingParams(greedy=True))(logits).tolist() == torch.from_numpy(logits).argmax(dim=-1).tolist()


def test_temperature_zero_is_greedy():
    logits = np.array([[0.0, 1.0, 0.5]], np.float32)
    assert Sampler(SamplingParams(temperature=0))(logits).tolist() == [1]


@pytest.mark.parametrize("temperature", [1e-300, 1e-40, 1e-3, 1e300])
def test_extreme_temperatures_give_a_distribution(temperature):
    logits = np.array([0.0, 60.0, 59.0, -np.inf], np.float32)
    ids, probabilities = Sampler(SamplingParams(temperature=temperature)).distribution(logits)
    assert ids.tolist() == [0, 1, 2, 3]
    expected = [0, 1, 0, 0] if temperature < 1 else [1 / 3, 1 / 3, 1 / 3, 0]
    np.testing.assert_allclose(probabilities, expected, rtol=1e-6)


def test_draws_by_inverse_cumulative_distribution(monkeypatch):
    # softmax of log([1, 2, 1]) is [.25, .5, .25]: the borders lie at .25 and .75
    logits = np.log(np.array([[1, 2, 1]] * 5, np.float32))
    sampler = Sampler(SamplingParams())

    class Fixed:
        def random(self, size):
            return np.array([0.0, 0.24, 0.26, 0.74, 0.76])

    monkeypatch.setattr(sampler, "_random", Fixed())
    assert sampler(logits).tolist() == [0, 0, 1, 1, 2]


def test_draw_frequencies_follow_the_distribution():
    logits = np.log(np.array([0.1, 0.2, 0.3, 0.4], np.float32))
    drawn = Sampler(SamplingParams(seed=2))(np.tile(logits, (40_000, 1)))
    frequencies = np.bincount(drawn, minlength=4) / drawn.size
    # five standard deviations of the least certain frequency: 5 * sqrt(.4 * .6 / 40000)
    np.testing.assert_allclose(frequencies, [0.1, 0.2, 0.3, 0.4], atol=0.0123)


def test_seed_reproduces_and_rows_draw_in_order():
    logits = np.random.default_rng(0).standard_normal((3, 50)).astype(np.float32)
    params = SamplingParams(temperature=1.4, seed=7)
    first, second = Sampler(params), Sampler(params)
    together = [first(logits).tolist() for _ in range(5)]
    singly = [[int(second(row[None])[0]) for row in logits] for _ in range(5)]
    assert together == singly
    assert [Sampler(SamplingParams(seed=8, temperature=1.4))(logits).tolist()] != together[:1]


@pytest.mark.parametrize("params", [SamplingParams(greedy=True), SamplingParams(), SamplingParams(top_k=2)], ids=str)
@pytest.mark.parametrize(
    "row", [[0.0, np.nan, 1.0], [-np.inf, -np.inf, -np.inf], [np.nan, np.nan, np.nan]], ids=["nan", "inf", "all nan"]
)
def test_broken_logits_are_an_error(params, row):
    with pytest.raises(ArtifactError, match="not finite"):
        Sampler(params)(np.array([[1.0, 2.0, 3.0], row], np.float32))


@pytest.mark.parametrize(
    ("parameter", "value", "legal"),
    [
        ("temperature", -0.1, "from 0 up"),
        ("temperature", float("nan"), "from 0 up"),
        ("temperature", float("inf"), "from 0 up"),
        ("temperature", True, "from 0 up"),
        ("top_k", -1, "from 0 up"),
        ("top_k", 2.5, "from 0 up"),
        ("top_p", 1.01, "from 0 to 1"),
        ("top_p", -0.01, "from 0 to 1"),
        ("min_p", 2, "from 0 to 1"),
        ("min_p", "0.1", "from 0 to 1"),
        ("repetition_penalty", 0, "from 0.01 to 100"),
        ("repetition_penalty", 101, "from 0.01 to 100"),
        ("seed", -1, "from 0 up"),
        ("seed", 1.0, "from 0 up"),
        ("greedy", 1, "true or false"),
        ("presence_penalty", 100.5, "from -100 to 100"),
    ],
)
def test_parameters_out_of_range(parameter, value, legal):
    with pytest.raises(UsageError, match=rf"^{parameter} is {value!r}: .*{legal}") as raised:
        SamplingParams(**{parameter: value})
    assert raised.value.exit_code == 2


@pytest.mark.parametrize(
    ("biases", "message"),
    [
        (((5, 100.5),), "the logit_bias of token 5 is 100.5: it must be a number from -100 to 100"),
        (((5, float("nan")),), "the logit_bias of token 5 is nan"),
        (((5, True),), "the logit_bias of token 5 is True"),
        (((-1, 1.0),), "a token id of logit_bias is -1"),
        ((("5", 1.0),), "a token id of logit_bias is '5'"),
        (((5, 1.0), (6, 1.0), (5, 2.0)), "logit_bias names a token id twice"),
    ],
)
def test_biases_out_of_range(biases, message):
    with pytest.raises(UsageError, match=message):
        SamplingParams(logit_bias=biases)


def test_history_counts_the_tokens_of_the_answer():
    history = TokenHistory(100, [3, 3, 1])
    for token in [3, *range(50), 3, 7]:
        history.add(token)
        counts = dict(zip(*(each.tolist() for each in history.answer_counts()), strict=True))
    assert counts == {token: 1 + 2 * (token == 3) + (token == 7) for token in range(50)}


def test_history_holds_each_token_once():
    history = TokenHistory(10, [3, 3, 1])
    for token in (1, 9, 9, 0):
        history.add(token)
    assert sorted(history.ids.tolist()) == [0, 1, 3, 9]
