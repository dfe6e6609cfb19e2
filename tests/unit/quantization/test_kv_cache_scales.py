"""Scales of a cache of eight bits, by hand."""

from __future__ import annotations

import types

import numpy as np
import pytest
import torch

from minimind_edge.export.quantization.formats import QuantizationSettings
from minimind_edge.export.quantization.kv_cache_scales import MARGIN, cache_scales, calibrate_cache
from minimind_edge.minimind import MiniMindConfig, MiniMindForCausalLM


def caching(key: list[float], value: list[float]) -> object:
    """A model of one layer and head that caches [1, 1, S, D] whatever it is given."""
    pair = tuple(torch.tensor(numbers).reshape(1, 1, -1, 4) for numbers in (key, value))
    return lambda tokens, **_options: types.SimpleNamespace(past_key_values=(pair,))


def test_a_keys_scale_is_its_pairs_length_and_a_values_its_own():
    # Channels 0 and 2 are a pair, and so are 1 and 3; two tokens.
    key = [3.0, 1.0, -4.0, 0.0, 0.0, 0.0, 2.0, -1.5]
    value = [1.0, -2.0, 0.5, 0.0, -3.0, 1.0, 0.25, 0.125]
    (scales,) = cache_scales(caching(key, value), torch.zeros(1, 2, dtype=torch.int64))
    assert scales.key * 127 / MARGIN == pytest.approx(np.array([[5.0, 1.5, 5.0, 1.5]]), rel=1e-6)
    assert scales.value * 127 / MARGIN == pytest.approx(np.array([[3.0, 2.0, 0.5, 0.125]]), rel=1e-6)
    assert (scales.key.dtype, scales.value.dtype) == (np.float32, np.float32)


def test_text_that_measures_is_not_text_that_calibrates():
    config = MiniMindConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, vocab_size=50)
    model = MiniMindForCausalLM(config).eval()
    settings = QuantizationSettings(length=12, held_out_rows=2, measured_rows=3)
    first, second = (calibrate_cache(model, [(1, 2)], settings) for _ in range(2))
    assert first.held_out.shape == (2, 12)
    assert (first.scales[0].key == second.scales[0].key).all()
    assert first.scales[0].key.shape == (config.num_key_value_heads, config.head_dim)
