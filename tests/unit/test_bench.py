"""The arithmetic of runtime/bench.py, on a session whose clock is made up."""

from __future__ import annotations

import numpy as np
import pytest

from minimind_edge.runtime import bench
from minimind_edge.runtime.bench import BenchPlan, BenchRow, Spread
from minimind_edge.runtime.decode import DecodeTimings
from minimind_edge.runtime.errors import UsageError


class FakeSession:
    """Counts calls; each decode step takes one made-up second inside the model."""

    max_length = 64
    vocab_size = 10

    def __init__(self):
        self.batch_size = 1
        self.length = 0
        self.prompts = []
        self.run_s = 0.0

    def reset(self, batch_size=1):
        self.batch_size, self.length = batch_size, 0

    def truncate(self, length):
        self.length = length

    def prefill(self, input_ids, attention_mask=None):
        self.prompts.append(input_ids.shape)
        self.length += input_ids.shape[1]
        return np.zeros((len(input_ids), self.vocab_size), dtype=np.float32)

    def decode(self, tokens):
        self.length += 1
        self.run_s += 1.0
        return np.zeros((len(tokens), self.vocab_size), dtype=np.float32)


def test_spread_is_the_median_and_the_range():
    assert Spread.of([3.0, 1.0, 2.0, 10.0]) == (2.5, 1.0, 10.0)


def test_quantities_by_hand():
    plan = BenchPlan(prompt_tokens=(8,), new_tokens=5, batch=2)
    timings = DecodeTimings(prefill_s=0.5, decode_s=2.0, time_to_first_token_s=0.6, decode_steps=4)
    assert bench._quantities(plan, 8, timings, inside=1.5) == {
        "prefill_tokens_per_s": 32.0,
        "decode_tokens_per_s": 4.0,
        "time_to_first_token_s": 0.6,
        "step_s": 0.5,
        "step_overhead_s": 0.125,
        "step_overhead_share": 0.25,
    }


def test_every_length_is_warmed_up_once_and_then_run_in_rounds():
    session = FakeSession()
    plan = BenchPlan(prompt_tokens=(4, 9), new_tokens=3, batch=2, runs=3)
    rows = bench.measure(session, plan)
    assert session.prompts == [(2, 4), (2, 9)] * 4
    assert [(row.prompt_tokens, row.new_tokens, row.batch, row.runs) for row in rows] == [(4, 3, 2, 3), (9, 3, 2, 3)]
    assert session.run_s == 2 * 4 * 2, "two decode steps behind the first token, in each of eight runs"


def test_json_holds_each_median_with_its_range():
    row = BenchRow(4, 3, 1, 2, {"decode_tokens_per_s": Spread(20.0, 10.0, 30.0)})
    assert row.to_json() == {
        "prompt_tokens": 4,
        "new_tokens": 3,
        "batch": 1,
        "runs": 2,
        "decode_tokens_per_s": 20.0,
        "decode_tokens_per_s_range": [10.0, 30.0],
    }


@pytest.mark.parametrize(
    "wrong", [{"prompt_tokens": ()}, {"prompt_tokens": (0,)}, {"new_tokens": 1}, {"batch": 0}, {"runs": 0}]
)
def test_a_plan_that_measures_nothing_is_refused(wrong):
    with pytest.raises(UsageError):
        BenchPlan(**wrong)


def test_a_plan_longer_than_the_context_is_refused_before_it_runs():
    session = FakeSession()
    with pytest.raises(UsageError, match="70 tokens"):
        bench.measure(session, BenchPlan(prompt_tokens=(60,), new_tokens=10))
    assert session.prompts == []
