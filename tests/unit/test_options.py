"""The options of a generation: what they make of a model's own sampling parameters."""

from __future__ import annotations

import pytest

from minimind_edge.runtime.options import GenerationOptions
from minimind_edge.runtime.sampling import SamplingParams

OWN = SamplingParams(temperature=0.85, top_p=0.95, repetition_penalty=1.1)


def test_the_model_s_own_parameters_unless_others_are_given():
    assert GenerationOptions().sampling_params(OWN) == OWN
    found = GenerationOptions(top_k=5, seed=7).sampling_params(OWN)
    assert found == SamplingParams(temperature=0.85, top_k=5, top_p=0.95, repetition_penalty=1.1, seed=7)


def test_a_greedy_model_samples_when_a_filter_is_given():
    own = SamplingParams(greedy=True)
    assert GenerationOptions(seed=3, repetition_penalty=1.2).sampling_params(own).greedy
    assert not GenerationOptions(top_k=5).sampling_params(own).greedy


@pytest.mark.parametrize("given", [{"temperature": 0.7}, {"top_k": 5}, {"top_p": 0.9}, {"min_p": 0.1}])
def test_greedy_stays_greedy_whatever_else_is_given(given):
    assert GenerationOptions(greedy=True, **given).sampling_params(OWN).is_greedy


def test_temperature_zero_is_greedy_and_goes_with_it():
    assert GenerationOptions(greedy=True, temperature=0.0).sampling_params(OWN).is_greedy
