"""Perplexity, KL divergence and top-1 agreement: by hand, and against PyTorch and transformers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from minimind_edge.export.errors import ExportError
from minimind_edge.export.evaluation import likelihood
from minimind_edge.export.evaluation.examples import Example, batches
from minimind_edge.export.evaluation.likelihood import (
    EagerLanguageModel,
    SessionLanguageModel,
    measure_likelihood,
    token_losses,
)

VOCABULARY = 128


def logits_of(*probabilities):
    return np.log(np.array(probabilities))


def test_losses_by_hand():
    reference = logits_of([0.5, 0.25, 0.25], [0.1, 0.8, 0.1])
    candidate = logits_of([0.25, 0.5, 0.25], [0.1, 0.8, 0.1]) + 7.0  # a constant changes no probability
    losses = token_losses(candidate, reference, np.array([1, 0]))
    assert losses.loss == pytest.approx([math.log(2), math.log(10)])
    assert losses.reference_loss == pytest.approx([math.log(4), math.log(10)])
    assert losses.divergence == pytest.approx([0.25 * math.log(2), 0.0])  # 0.5 ln 2 - 0.25 ln 2
    assert losses.agrees.tolist() == [False, True]


class Table:
    """Predicts each token by a table: what follows token t has the logits `table[t]`."""

    def __init__(self, table):
        self.table = np.asarray(table, np.float32)
        self.vocab_size = self.table.shape[1]
        self.widths = []

    def start(self, batch_size):
        self.batch_size = batch_size

    def extend(self, tokens):
        assert len(tokens) == self.batch_size
        self.widths.append(tokens.shape[1])
        return self.table[tokens]


def test_only_what_is_to_be_predicted_counts():
    halves = logits_of([0.5, 0.5], [0.5, 0.5])
    sure = logits_of([0.75, 0.25], [0.25, 0.75])
    rows = [Example((0, 0, 0), 2), Example((1, 0, 0, 1, 1), 3)]  # predicted: 0 after 0; 1 after 0, 1 after 1
    found = measure_likelihood(rows, Table(sure), Table(halves))
    assert found.tokens == 3
    assert found.perplexity == pytest.approx((0.75 * 0.25 * 0.75) ** (-1 / 3))
    assert found.reference_perplexity == pytest.approx(2.0)
    assert found.mean_kl == pytest.approx(0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25))
    assert found.top1_agreement == pytest.approx(2 / 3)  # of equal logits the first is taken: they differ after 1


def test_without_a_reference_there_is_nothing_to_be_far_from():
    found = measure_likelihood([Example((0, 1), 1)], Table(logits_of([0.5, 0.5], [0.5, 0.5])))
    assert found.perplexity == pytest.approx(2.0)
    assert (found.reference_perplexity, found.mean_kl, found.top1_agreement) == (None, None, None)


@pytest.mark.parametrize(("spoiled", "whose"), [(0, "the artifact"), (1, "the reference")])
@pytest.mark.filterwarnings("ignore:invalid value")
def test_logits_that_are_not_finite_are_an_error(spoiled, whose):
    tables = [np.zeros((2, 2)), np.zeros((2, 2))]
    tables[spoiled][1, 0] = np.inf
    with pytest.raises(ExportError, match=f"{whose} gives logits that are not finite for 1 of 3 tokens"):
        measure_likelihood([Example((0, 0, 1, 0), 1)], *map(Table, tables))


def test_long_rows_are_shown_in_parts_that_fit_in_memory(monkeypatch):
    table = np.random.default_rng(0).normal(size=(5, 5))
    rows = [Example(tuple(np.arange(length) % 5), 1) for length in (2, 9, 17)]
    at_once = measure_likelihood(rows, Table(table), Table(table[::-1]))
    monkeypatch.setattr(likelihood, "CHUNK_BYTES", 4 * 5 * 3 * 4)
    monkeypatch.setattr(likelihood, "BLOCK_NUMBERS", 10)
    in_parts = Table(table)
    found = measure_likelihood(rows, in_parts, Table(table[::-1]))
    assert in_parts.widths == [4, 4, 4, 4]
    assert found.tokens == at_once.tokens == 1 + 8 + 16
    assert [found.perplexity, found.mean_kl] == pytest.approx([at_once.perplexity, at_once.mean_kl])


def test_batches_hold_rows_of_like_length_padded_on_the_right():
    first, second = batches([Example((1, 2, 3), 1), Example((4, 5), 1), Example((6, 7, 8, 9), 2)], batch_size=2)
    assert first.token_ids.tolist() == [[4, 5, 0], [1, 2, 3]]
    assert first.predicted.tolist() == [[False, True, False], [False, True, True]]
    assert second.lengths.tolist() == [4]
    assert second.predicted.tolist() == [[False, False, True, True]]


@pytest.fixture
def rows():
    generator = np.random.default_rng(1)
    return [
        Example(tuple(generator.integers(0, VOCABULARY, length).tolist()), first)
        for length, first in ((9, 1), (30, 7), (4, 3))
    ]


def expected_loss(model, row):
    ids = torch.tensor([row.token_ids])
    labels = ids.clone()
    labels[:, : row.context_length] = -100
    with torch.inference_mode():
        return float(model(ids, labels=labels).loss)  # the mean over the tokens that have a label


def test_perplexity_is_that_of_transformers_loss(random_model, rows):
    """The labels' loss is computed by transformers, the model by a stock Llama of the same weights' shapes."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(3)
    config = LlamaConfig(
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=VOCABULARY,
    )
    llama = LlamaForCausalLM(config).eval()
    mean = sum(expected_loss(llama, row) * row.predicted for row in rows) / sum(row.predicted for row in rows)
    assert measure_likelihood(rows, EagerLanguageModel(llama)).perplexity == pytest.approx(math.exp(mean), rel=1e-5)


def test_two_models_are_as_far_apart_as_pytorch_says(tiny_config, random_model, rows):
    candidate, reference = random_model(tiny_config, 0), random_model(tiny_config, 1)
    found = measure_likelihood(rows, EagerLanguageModel(candidate), EagerLanguageModel(reference), batch_size=2)
    logits = {name: [] for name in ("candidate", "reference")}
    targets = []
    with torch.inference_mode():
        for row in rows:
            ids = torch.tensor([row.token_ids])
            part = slice(row.context_length - 1, len(row.token_ids) - 1)
            logits["candidate"].append(candidate(ids).logits[0, part])
            logits["reference"].append(reference(ids).logits[0, part])
            targets.append(ids[0, row.context_length :])
    ours, theirs, due = (torch.cat(parts) for parts in (*logits.values(), targets))
    divergence = kl_div(log_softmax(ours, -1), log_softmax(theirs, -1), log_target=True, reduction="batchmean")
    assert found.tokens == len(due)
    assert found.perplexity == pytest.approx(math.exp(cross_entropy(ours, due)), rel=1e-5)
    assert found.reference_perplexity == pytest.approx(math.exp(cross_entropy(theirs, due)), rel=1e-5)
    assert found.mean_kl == pytest.approx(float(divergence), rel=1e-4)
    assert found.top1_agreement == pytest.approx(float((ours.argmax(-1) == theirs.argmax(-1)).float().mean()))


class Steps:
    """A session of which each call overwrites the logits of the one before, as sessions may."""

    vocab_size = 3

    def __init__(self, can_verify):
        self.gives_all_logits = can_verify
        self.calls = []

    def reset(self, batch_size):
        self.logits = np.zeros((batch_size, self.vocab_size), np.float32)

    def decode(self, tokens):
        self.calls.append("decode")
        self.logits[:] = np.eye(self.vocab_size)[tokens]
        return self.logits

    def forward(self, tokens):
        self.calls.append("verify")
        return np.eye(self.vocab_size, dtype=np.float32)[tokens]


@pytest.mark.parametrize(("can_verify", "calls"), [(True, ["verify"]), (False, ["decode", "decode"])])
def test_a_session_is_asked_for_all_rows_of_logits_where_it_has_them(can_verify, calls):
    session = Steps(can_verify)
    predictor = SessionLanguageModel(session)
    predictor.start(2)
    logits = predictor.extend(np.array([[0, 2], [1, 0]]))
    assert logits.argmax(-1).tolist() == [[0, 2], [1, 0]]
    assert session.calls == calls
