"""RoPE against complex multiplication, YaRN against its equations and against transformers."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from minimind_edge.minimind import MiniMindConfig, apply_rotary_pos_emb, precompute_freqs_cis
from minimind_edge.minimind.rope import RotaryEmbedding, rope_frequencies

YARN = {
    "type": "yarn",
    "factor": 16.0,
    "original_max_position_embeddings": 2048,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "attention_factor": 1.0,
}
LAST_POSITION = 32767


def rotate_by_complex_numbers(x, base):
    """RoFormer, equation 34, in float64: element i and element i + D/2 of [B, S, H, D] are one complex number."""
    length, dim = x.shape[1], x.shape[-1]
    pairs = torch.complex(x[..., : dim // 2].double(), x[..., dim // 2 :].double())
    angles = [[position * base ** (-2 * i / dim) for i in range(dim // 2)] for position in range(length)]
    turned = pairs * torch.exp(1j * torch.tensor(angles, dtype=torch.float64))[:, None, :]
    return torch.cat((turned.real, turned.imag), dim=-1).float()


def yarn_frequency(i, dim, base, yarn):
    """One pair's frequency by YaRN, equations 18 to 20; the ramp runs over pair indices, as in its authors' code."""
    frequency = base ** (-2 * i / dim)

    def index_of(turns):
        return dim * math.log(yarn["original_max_position_embeddings"] / (turns * 2 * math.pi)) / (2 * math.log(base))

    low, high = math.floor(index_of(yarn["beta_fast"])), math.ceil(index_of(yarn["beta_slow"]))
    if i <= low:
        extrapolated = 1.0
    elif i >= high:
        extrapolated = 0.0
    else:
        extrapolated = (high - i) / (high - low)
    return extrapolated * frequency + (1 - extrapolated) * frequency / yarn["factor"]


def test_frequencies_by_hand():
    expected = torch.tensor([1.0, 0.1, 0.01, 0.001])
    torch.testing.assert_close(rope_frequencies(8, 2048, rope_base=1e4), expected)


def test_table_has_both_halves_alike():
    cos, sin = precompute_freqs_cis(4, end=3, rope_base=100.0)
    angles = torch.tensor([[0.0, 0.0, 0.0, 0.0], [1.0, 0.1, 1.0, 0.1], [2.0, 0.2, 2.0, 0.2]])
    assert cos.dtype == sin.dtype == torch.float32
    torch.testing.assert_close(cos, angles.cos())
    torch.testing.assert_close(sin, angles.sin())


@pytest.mark.parametrize("base", [1e4, 1e6])
def test_rotation_is_a_complex_multiplication(base):
    torch.manual_seed(0)
    q, k = torch.randn(2, 9, 4, 16), torch.randn(2, 9, 2, 16)
    rotated_q, rotated_k = apply_rotary_pos_emb(q, k, *precompute_freqs_cis(16, 9, base))
    torch.testing.assert_close(rotated_q, rotate_by_complex_numbers(q, base))
    torch.testing.assert_close(rotated_k, rotate_by_complex_numbers(k, base))


def test_scores_depend_on_the_distance_alone():
    torch.manual_seed(0)
    q, k = torch.randn(1, 1, 1, 32), torch.randn(1, 1, 1, 32)
    cos, sin = precompute_freqs_cis(32, 200)

    def score(query_position, key_position):
        rotated_q, _ = apply_rotary_pos_emb(q, q, cos[[query_position]], sin[[query_position]])
        _, rotated_k = apply_rotary_pos_emb(k, k, cos[[key_position]], sin[[key_position]])
        return (rotated_q * rotated_k).sum()

    torch.testing.assert_close(score(5, 3), score(193, 191), atol=1e-4, rtol=0)
    assert abs(score(5, 3) - score(193, 3)) > 0.1


def test_head_axis_may_come_first_or_second():
    torch.manual_seed(0)
    q, k = torch.randn(2, 5, 4, 8), torch.randn(2, 5, 2, 8)
    cos, sin = precompute_freqs_cis(8, 5)
    expected_q, expected_k = apply_rotary_pos_emb(q, k, cos, sin)
    batched = cos.expand(2, 5, 8), sin.expand(2, 5, 8)
    by_row = apply_rotary_pos_emb(q, k, *batched, unsqueeze_dim=2)
    by_head = apply_rotary_pos_emb(q.transpose(1, 2), k.transpose(1, 2), *batched)
    torch.testing.assert_close(by_row, (expected_q, expected_k))
    torch.testing.assert_close(by_head, (expected_q.transpose(1, 2), expected_k.transpose(1, 2)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_rotation_keeps_the_dtype_and_computes_in_float32(dtype):
    torch.manual_seed(0)
    q = torch.randn(1, 6, 2, 8, dtype=dtype)
    cos, sin = precompute_freqs_cis(8, 6)
    rotated, _ = apply_rotary_pos_emb(q, q, cos, sin)
    in_float32, _ = apply_rotary_pos_emb(q.float(), q.float(), cos, sin)
    assert torch.equal(rotated, in_float32.to(dtype))


@pytest.mark.parametrize(("dim", "base"), [(64, 1e6), (96, 1e6), (64, 1e4), (128, 5e5)])
def test_yarn_is_its_equations(dim, base):
    expected = torch.tensor([yarn_frequency(i, dim, base, YARN) for i in range(dim // 2)])
    torch.testing.assert_close(rope_frequencies(dim, 32768, base, YARN), expected)


@pytest.mark.parametrize(("dim", "base"), [(64, 1e6), (96, 1e6), (64, 1e4)])
def test_yarn_keeps_fast_pairs_and_interpolates_slow_ones(dim, base):
    plain, stretched = rope_frequencies(dim, 32768, base), rope_frequencies(dim, 32768, base, YARN)
    turns = 2048 * plain / (2 * math.pi)
    assert (turns > 32).any()
    assert (turns < 1).any()
    assert torch.equal(stretched[turns > 32], plain[turns > 32])
    torch.testing.assert_close(stretched[turns < 1], plain[turns < 1] / 16)
    between = (turns < 32) & (turns > 1)
    assert (stretched[between] <= plain[between]).all()
    assert (stretched[between] >= plain[between] / 16).all()


@pytest.mark.parametrize("dim", [64, 96])
@pytest.mark.parametrize("factor", [4.0, 16.0])
def test_yarn_is_transformers(dim, factor):
    yarn = YARN | {"factor": factor, "rope_type": "yarn", "rope_theta": 1e6}
    config = LlamaConfig(
        hidden_size=8 * dim,
        num_attention_heads=8,
        max_position_embeddings=32768,
        rope_theta=1e6,
        rope_scaling={key: value for key, value in yarn.items() if key != "type"},
    )
    frequencies, attention_factor = ROPE_INIT_FUNCTIONS["yarn"](config, torch.device("cpu"))
    assert attention_factor == 1.0
    torch.testing.assert_close(rope_frequencies(dim, 32768, 1e6, YARN | {"factor": factor}), frequencies)


def test_yarn_sleeps_within_the_original_context():
    assert torch.equal(rope_frequencies(64, 2048, 1e6, YARN), rope_frequencies(64, 2048, 1e6))
    assert not torch.equal(rope_frequencies(64, 2049, 1e6, YARN), rope_frequencies(64, 2049, 1e6))


def test_yarn_fills_in_what_is_not_given():
    assert torch.equal(rope_frequencies(64, 32768, 1e6, {"factor": 16}), rope_frequencies(64, 32768, 1e6, YARN))


def test_attention_factor_scales_the_table():
    cos, sin = precompute_freqs_cis(64, 4096, 1e6, YARN)
    louder_cos, louder_sin = precompute_freqs_cis(64, 4096, 1e6, YARN | {"attention_factor": 1.25})
    torch.testing.assert_close(louder_cos, 1.25 * cos)
    torch.testing.assert_close(louder_sin, 1.25 * sin)


@pytest.mark.parametrize("scaled", [False, True])
def test_computed_angles_are_the_table_up_to_the_last_position(scaled):
    config = MiniMindConfig(inference_rope_scaling=scaled)
    table = precompute_freqs_cis(64, LAST_POSITION + 1, config.rope_theta, config.rope_scaling)
    positions = torch.tensor([[0, 1, 2047, 2048], [9999, 20000, 32766, LAST_POSITION]])
    for computed, expected in zip(RotaryEmbedding(config)(positions), table, strict=True):
        assert computed.shape == (2, 4, 64)
        torch.testing.assert_close(computed, expected[positions], atol=1e-6, rtol=0)


def test_angles_are_as_exact_as_float32_frequencies_allow():
    cos, sin = precompute_freqs_cis(64, LAST_POSITION + 1)
    angles = LAST_POSITION * 1e6 ** (-torch.arange(0, 64, 2, dtype=torch.float64) / 64)
    # A float32 frequency and its product are each off by up to 6e-8 of themselves: of 32767 radians, 2e-3 each.
    torch.testing.assert_close(cos[-1, :32].double(), angles.cos(), atol=4e-3, rtol=0)
    torch.testing.assert_close(sin[-1, :32].double(), angles.sin(), atol=4e-3, rtol=0)


def test_half_precision_and_meta_devices_leave_the_frequencies_alone():
    expected = rope_frequencies(64, 32768, 1e6)
    assert torch.equal(RotaryEmbedding(MiniMindConfig()).half().frequencies, expected)
    with torch.device("meta"):
        assert torch.equal(RotaryEmbedding(MiniMindConfig()).frequencies, expected)
