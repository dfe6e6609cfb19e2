"""Sampling for the rows of a batch: each row's tokens alone, transformers' distributions, torch's log softmax."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import MinPLogitsWarper, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from minimind_edge.runtime.batch.request import BatchRequest
from minimind_edge.runtime.batch.row_sampler import NO_TOKEN, RowSampler, sample_rows
from minimind_edge.runtime.errors import ArtifactError, PromptError, UsageError
from minimind_edge.runtime.sampling import Sampler, SamplingParams, TokenHistory
from minimind_edge.runtime.text.prompt import Prompt
from minimind_edge.runtime.token_filters import Filter, RowFilters, draw

GREEDY = SamplingParams(greedy=True)


def row_of(params=GREEDY, *, vocab_size=8, prompt=(1,), max_new_tokens=20, **fields):
    return RowSampler(BatchRequest(Prompt(tuple(prompt)), params, max_new_tokens, **fields), vocab_size)


def tokens_of(sampled):
    return [each.token_id for each in sampled]


PARAMS = st.builds(
    SamplingParams,
    temperature=st.sampled_from([0.0, 1e-30, 0.01, 0.3, 0.8, 1.0, 1.7, 1e20]),
    top_k=st.sampled_from([0, 1, 2, 5, 50, 10_000]),
    top_p=st.sampled_from([0.0, 0.1, 0.5, 0.9, 0.995, 1.0]),
    min_p=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    repetition_penalty=st.sampled_from([0.7, 1.0, 1.3]),
    seed=st.integers(0, 99),
    greedy=st.sampled_from([False, False, False, True]),
    presence_penalty=st.sampled_from([0.0, 1.5]),
    frequency_penalty=st.sampled_from([0.0, 0.4]),
    logit_bias=st.sampled_from([(), ((0, 5.0),)]),
)
SIZES = st.sampled_from([1, 2, 3, 50, 129, 256, 257, 700, 2049, 4096])


def logits_of(kind, shape, random):
    logits = (random.standard_normal(shape) * random.choice([0.01, 1.0, 3.0, 10.0])).astype(np.float32)
    if kind == "ties":
        return np.round(logits)
    if kind == "equal":
        return np.full(shape, 1.5, np.float32)
    if kind == "minus infinity":
        logits[random.random(shape) < 0.5] = -np.inf
        logits[:, 0] = 0
    return logits


@settings(max_examples=120, derandomize=True, deadline=None, database=None)
@given(
    st.lists(PARAMS, min_size=1, max_size=9),
    SIZES,
    st.sampled_from(["normal", "ties", "equal", "minus infinity"]),
    st.integers(0, 2**32 - 1),
)
def test_each_row_gets_the_tokens_it_gets_alone(params, vocab_size, kind, seed):
    random = np.random.default_rng(seed)
    prompts = [random.integers(0, vocab_size, 1 + row).tolist() for row in range(len(params))]
    rows = [row_of(each, vocab_size=vocab_size, prompt=ids) for each, ids in zip(params, prompts, strict=True)]
    alone = [(Sampler(each, 20), TokenHistory(vocab_size, ids)) for each, ids in zip(params, prompts, strict=True)]
    for _ in range(3):
        logits = logits_of(kind, (len(rows), vocab_size), random)
        idle = random.random(len(rows)) < 0.2
        given_logits = np.where(idle[:, None], np.float32(np.nan), logits)
        sampled = sample_rows(given_logits, [None if skip else row for row, skip in zip(rows, idle, strict=True)])
        for row, (sampler, history) in enumerate(alone):
            if idle[row]:
                assert sampled[row] is None
                continue
            (expected,) = sampler(logits[row : row + 1], [history]).tolist()
            history.add(expected)
            assert sampled[row] == (expected, None, False, None)


def by_transformers(logits, params, threshold):
    """The token at a threshold of the distribution of transformers' warpers; None where rounding may decide."""
    warpers = [TemperatureLogitsWarper(params.temperature)]
    warpers += [TopKLogitsWarper(params.top_k)] if params.top_k else []
    warpers += [TopPLogitsWarper(params.top_p)] if params.top_p < 1.0 else []
    warpers += [MinPLogitsWarper(params.min_p)] if params.min_p else []
    scores = torch.from_numpy(logits.copy())[None]
    for warper in warpers:
        scores = warper(None, scores)
    probabilities = torch.softmax(scores[0].double(), -1).numpy()
    order = np.arange(len(logits)) if len(warpers) == 1 else np.argsort(probabilities, kind="stable")[::-1]
    sums = np.cumsum(probabilities[order])
    # Float32 weights are right to about 1e-6, as their exponents are below 30.
    if np.abs(sums - threshold).min() < 1e-5:
        return None
    return int(order[np.searchsorted(sums, threshold, side="right")])


@pytest.mark.parametrize("spread", [0.5, 3.0, 8.0])
@pytest.mark.parametrize("vocab_size", [60, 700, 4096])
def test_a_batch_is_drawn_from_the_distributions_of_transformers(spread, vocab_size):
    random = np.random.default_rng(vocab_size)
    settings = [
        (0, 1.0, 0.0),
        (0, 1.0, 0.1),
        (0, 0.9, 0.0),
        (0, 0.5, 0.2),
        (0, 0.995, 0.0),
        (40, 1.0, 0.0),
        (40, 0.8, 0.05),
    ]
    decided = 0
    for top_k, top_p, min_p in settings:
        temperatures = random.choice([0.4, 0.8, 1.0, 1.5], 24)
        logits = (random.standard_normal((24, vocab_size)) * spread).astype(np.float32)
        logits[:4, random.integers(0, vocab_size, 3)] += 20  # some rows with few likely tokens
        params = [SamplingParams(float(each), top_k, top_p, min_p) for each in temperatures]
        thresholds = random.random(24)
        filters = RowFilters.of([each.filter for each in params])
        tokens = draw(logits, logits.max(axis=1, keepdims=True), filters, thresholds)
        for row, token in enumerate(tokens.tolist()):
            expected = by_transformers(logits[row], params[row], thresholds[row])
            decided += expected is not None
            assert expected in (None, token)
    assert decided > 0.8 * 24 * len(settings)


@pytest.mark.parametrize(("threshold", "expected"), [(0.0, 3), (0.49, 3), (0.51, 1), (0.99, 1)])
def test_filtered_tokens_are_drawn_from_the_likeliest_on(threshold, expected):
    # Top-k keeps the weights 4 and 4 of 1, 4, 2 and 4; of equal ones the later comes first.
    logits = np.log(np.array([[1, 4, 2, 4]], np.float32))
    filters = RowFilters.of([Filter.of(1.0, 2, 1.0, 0.0)])
    assert draw(logits, logits.max(axis=1, keepdims=True), filters, np.array([threshold])) == [expected]


def test_the_largest_random_number_draws_a_token_with_a_weight():
    logits = np.array([[0.0, 0.0, -np.inf, -np.inf]], np.float32)
    almost_one = np.array([np.nextafter(1.0, 0.0)])
    for min_p in (0.0, 0.5):
        filters = RowFilters.of([Filter.of(1.0, 0, 1.0, min_p)])
        assert draw(logits, np.zeros((1, 1), np.float32), filters, almost_one) in ([0], [1])


def test_penalties_count_the_answer_of_each_row():
    # Token 2 loses 1.5, and 0.5 for each time that the answer has it: 3 - 2 = 1 is below 2.5. Then token 1 loses too:
    # 2.5 - 2 = 0.5 is below 1. The prompt does not count.
    penalized = SamplingParams(greedy=True, presence_penalty=1.5, frequency_penalty=0.5)
    rows = [row_of(penalized, vocab_size=3, prompt=(2, 2)), row_of(vocab_size=3)]
    logits = np.array([[0.0, 2.5, 3.0], [0.0, 2.5, 3.0]], np.float32)
    assert [tokens_of(sample_rows(logits, rows)) for _ in range(3)] == [[2, 2], [1, 2], [2, 2]]
    assert logits.tolist() == [[0.0, 2.5, 3.0], [0.0, 2.5, 3.0]]


def test_logit_bias_by_hand():
    logits = np.array([[1.0, 2.0, 3.0, 4.0]] * 3, np.float32)
    forbidding = SamplingParams(greedy=True, logit_bias=((3, -100.0),))
    forcing = SamplingParams(seed=1, logit_bias=((0, 100.0), (3, -1.0)))
    # Before the penalty, token 0 has (1 + 5) / 2 = 3, below 3 + 1 = 4 of token 2; after it, it would have 1 / 2 + 5.
    penalized = SamplingParams(greedy=True, repetition_penalty=2.0, logit_bias=((0, 5.0), (2, 1.0)))
    rows = [row_of(each, vocab_size=4, prompt=(0, 3)) for each in (forbidding, forcing, penalized)]
    assert tokens_of(sample_rows(logits, rows)) == [2, 0, 2]


def test_logit_bias_of_an_unknown_token_is_refused():
    with pytest.raises(UsageError, match="logit_bias names token id 8: this model's ids are 0 to 7"):
        row_of(SamplingParams(logit_bias=((7, 1.0), (8, 1.0))))


@pytest.mark.parametrize("most", [0, 1, 3, 20])
def test_log_probabilities_are_those_of_the_raw_logits(most):
    random = np.random.default_rng(3)
    logits = (random.standard_normal((4, 300)) * 5).astype(np.float32)
    params = [
        GREEDY,
        SamplingParams(temperature=0.5, top_k=3, seed=1),
        SamplingParams(greedy=True, repetition_penalty=1.5, logit_bias=((7, 50.0),)),
        GREEDY,
    ]
    counts = [most, most, 2, None]
    rows = [
        row_of(each, vocab_size=300, top_logprobs=count, constraint=Allowing({5, 9}) if index == 1 else None)
        for index, (each, count) in enumerate(zip(params, counts, strict=True))
    ]
    sampled = sample_rows(logits, rows)
    expected = torch.log_softmax(torch.from_numpy(logits).double(), -1)
    assert sampled[3].logprobs is None
    for row, count in enumerate(counts[:3]):
        found = sampled[row].logprobs
        best = expected[row].topk(count)
        assert found.token_id == sampled[row].token_id
        # The logits are below 32, where float32 has steps of 2e-6.
        assert found.logprob == pytest.approx(expected[row, found.token_id].item(), abs=4e-6)
        assert [token for token, _ in found.top] == best.indices.tolist()
        assert [each for _, each in found.top] == pytest.approx(best.values.tolist(), abs=4e-6)


def test_more_log_probabilities_than_tokens_are_all_of_them_in_the_order_of_their_ids_where_equal():
    (sampled,) = sample_rows(np.zeros((1, 4), np.float32), [row_of(vocab_size=4, top_logprobs=20)])
    assert [token for token, _ in sampled.logprobs.top] == [0, 1, 2, 3]
    assert [each for _, each in sampled.logprobs.top] == pytest.approx([math.log(1 / 4)] * 4)


class Allowing:
    """A constraint that always allows the same tokens, and is complete with one of them."""

    def __init__(self, tokens, last=None):
        self.tokens, self.last, self.accepted = tokens, last, []

    def allowed(self):
        mask = np.zeros(300, np.bool_)
        mask[list(self.tokens)] = True
        return mask

    def accept(self, token_id):
        self.accepted.append(token_id)
        return token_id == self.last


def test_a_constraint_masks_its_row_and_is_told_the_token():
    logits = np.tile(np.arange(300, dtype=np.float32), (3, 1))
    constraint = Allowing({4, 7}, last=7)
    rows = [row_of(vocab_size=300), row_of(vocab_size=300, constraint=constraint), row_of(vocab_size=300)]
    assert [(each.token_id, each.is_last) for each in sample_rows(logits, rows)] == [
        (299, False),
        (7, True),
        (299, False),
    ]
    assert constraint.accepted == [7]


def test_a_constraint_that_allows_all_changes_nothing():
    class Free(Allowing):
        def allowed(self):
            return None

    rows = [row_of(vocab_size=300, constraint=Free({1}))]
    assert tokens_of(sample_rows(np.arange(300, dtype=np.float32)[None], rows)) == [299]


def test_an_answer_with_a_constraint_is_not_forced_to_end():
    params = SamplingParams(greedy=True, forced_eos_token_ids=(2,))
    logits = np.arange(300, dtype=np.float32)[None]
    assert tokens_of(sample_rows(logits, [row_of(params, vocab_size=300, max_new_tokens=1)])) == [2]
    kept = row_of(params, vocab_size=300, max_new_tokens=1, constraint=Allowing({4}))
    assert tokens_of(sample_rows(logits, [kept])) == [4]


@pytest.mark.parametrize("params", [GREEDY, SamplingParams(top_k=3, seed=0)], ids=["greedy", "sampled"])
def test_a_row_without_a_token_gets_an_error_of_its_own(params):
    class Failing(Allowing):
        def allowed(self):
            raise PromptError("the grammar is too large")

    class Refusing(Allowing):
        def accept(self, token_id):
            raise PromptError("the grammar is stuck")

    logits = np.random.default_rng(0).standard_normal((8, 300)).astype(np.float32)
    expected = sample_rows(logits, [row_of(params, vocab_size=300) for _ in range(8)])
    logits[1, 5] = np.nan
    logits[2] = -np.inf
    logits[3, 5] = np.inf
    constraints = {4: Allowing(set()), 5: Failing({1}), 6: Refusing({1})}
    rows = [row_of(params, vocab_size=300, constraint=constraints.get(row), top_logprobs=0) for row in range(8)]
    sampled = sample_rows(logits, rows)
    assert [sampled[row].token_id for row in (0, 7)] == [expected[row].token_id for row in (0, 7)]
    assert [type(each.error) for each in sampled[1:7]] == [ArtifactError] * 3 + [UsageError] + [PromptError] * 2
    assert {each.token_id for each in sampled[1:7]} == {NO_TOKEN}
    assert all(each.logprobs is None for each in sampled[1:7])
    assert not constraints[4].accepted


def test_a_nan_that_the_constraint_forbids_is_still_an_error():
    logits = np.zeros((1, 300), np.float32)
    logits[0, 5] = np.nan
    (sampled,) = sample_rows(logits, [row_of(vocab_size=300, constraint=Allowing({1}))])
    assert isinstance(sampled.error, ArtifactError)


def test_idle_rows_alone_are_no_work():
    assert sample_rows(np.full((2, 8), np.nan, np.float32), [None, None]) == [None, None]


def test_a_view_of_every_other_row_is_read_as_it_is():
    logits = np.random.default_rng(0).standard_normal((6, 300)).astype(np.float32)
    params = SamplingParams(top_k=5, seed=3)
    rows = [[row_of(params, vocab_size=300) for _ in range(3)] for _ in range(2)]
    assert sample_rows(logits[::2], rows[0]) == sample_rows(logits[::2].copy(), rows[1])
