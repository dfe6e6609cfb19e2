"""RMSNorm, the feed-forward network and the block against their formulas."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from minimind_edge.minimind import Attention, FeedForward, MiniMindBlock, MiniMindConfig, RMSNorm, precompute_freqs_cis


def test_rms_norm_by_hand():
    norm = RMSNorm(2, eps=0.5)
    norm.weight.data = torch.tensor([2.0, -1.0])
    root = math.sqrt((9 + 16) / 2 + 0.5)
    torch.testing.assert_close(norm(torch.tensor([[3.0, 4.0]])), torch.tensor([[6 / root, -4 / root]]))


def test_rms_norm_is_torchs():
    torch.manual_seed(0)
    ours, theirs = RMSNorm(64, eps=1e-5), nn.RMSNorm(64, eps=1e-5)
    ours.weight.data = theirs.weight.data = torch.randn(64)
    x = torch.randn(2, 3, 64)
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_rms_norm_computes_in_float32(dtype):
    norm = RMSNorm(64).to(dtype)
    x = torch.full((1, 64), 300.0, dtype=dtype)
    assert norm(x).dtype == dtype
    torch.testing.assert_close(norm(x), torch.ones(1, 64, dtype=dtype))  # 300 squared overflows float16


@pytest.mark.parametrize(("name", "activation"), [("silu", nn.SiLU()), ("gelu", nn.GELU()), ("relu", nn.ReLU())])
def test_feed_forward_is_gated(name, activation):
    torch.manual_seed(0)
    layer = FeedForward(MiniMindConfig(hidden_size=8, num_attention_heads=2, intermediate_size=12, hidden_act=name))
    x = torch.randn(2, 3, 8)
    gate, up, down = (p.weight for p in (layer.gate_proj, layer.up_proj, layer.down_proj))
    torch.testing.assert_close(layer(x), (activation(x @ gate.T) * (x @ up.T)) @ down.T)


def test_feed_forward_of_a_given_width():
    layer = FeedForward(MiniMindConfig(hidden_size=8, num_attention_heads=2), 20)
    assert layer.gate_proj.weight.shape == layer.up_proj.weight.shape == (20, 8)
    assert layer.down_proj.weight.shape == (8, 20)


def test_block_by_its_published_call():
    torch.manual_seed(0)
    config = MiniMindConfig(hidden_size=64, num_attention_heads=4, num_key_value_heads=2)
    block = MiniMindBlock(0, config).eval()
    cos, sin = precompute_freqs_cis(dim=16, end=32, rope_base=config.rope_theta)
    x = torch.randn(2, 7, 64)
    whole, _ = block(hidden_states=x, position_embeddings=(cos[:7], sin[:7]))

    first, present = block(
        hidden_states=x[:, :4],
        position_embeddings=(cos[:4], sin[:4]),
        past_key_value=None,
        use_cache=True,
        attention_mask=torch.ones(2, 4),
    )
    rest, present = block(
        hidden_states=x[:, 4:],
        position_embeddings=(cos[4:7], sin[4:7]),
        past_key_value=present,
        use_cache=True,
        attention_mask=torch.ones(2, 7),
    )
    torch.testing.assert_close(torch.cat((first, rest), dim=1), whole)
    key, value = present
    assert key.shape == value.shape == (2, 2, 7, 16)


def test_block_adds_attention_then_feed_forward_to_the_residual():
    torch.manual_seed(0)
    config = MiniMindConfig(hidden_size=64, num_attention_heads=4)
    block = MiniMindBlock(3, config).eval()
    position_embeddings = precompute_freqs_cis(16, 5)
    x = torch.randn(1, 5, 64)
    output, present = block(x, position_embeddings)
    attended, _ = block.self_attn(block.input_layernorm(x), position_embeddings)
    middle = x + attended
    assert present is None
    assert block.layer_id == 3
    assert isinstance(block.self_attn, Attention)
    torch.testing.assert_close(output, middle + block.mlp(block.post_attention_layernorm(middle)))


def test_attention_takes_its_tokens_rows_of_longer_tables():
    """The published example: tables of 2,048 positions for 128 tokens; then a chunk after a past."""
    torch.manual_seed(0)
    config = MiniMindConfig(hidden_size=64, num_attention_heads=4, num_key_value_heads=2)
    attention = Attention(config).eval()
    cos, sin = precompute_freqs_cis(16, 2048)
    x = torch.randn(2, 128, 64)
    expected, _ = attention(x, (cos[:128], sin[:128]))
    torch.testing.assert_close(attention(x, (cos, sin))[0], expected)

    _, past = attention(x[:, :100], (cos, sin), use_cache=True)
    rest, _ = attention(x[:, 100:], (cos, sin), past_key_value=past)
    torch.testing.assert_close(rest, expected[:, 100:])


def test_block_takes_its_tokens_rows_of_longer_tables():
    torch.manual_seed(0)
    config = MiniMindConfig(hidden_size=64, num_attention_heads=4, num_key_value_heads=2)
    block = MiniMindBlock(0, config).eval()
    cos, sin = precompute_freqs_cis(16, 32)
    x = torch.randn(1, 9, 64)
    expected, _ = block(x, (cos[:9], sin[:9]))
    _, past = block(x[:, :5], (cos, sin), use_cache=True)
    torch.testing.assert_close(block(x[:, 5:], (cos, sin), past_key_value=past)[0], expected[:, 5:])


def test_tables_that_end_before_the_tokens_are_an_error():
    attention = Attention(MiniMindConfig(hidden_size=64, num_attention_heads=4, num_key_value_heads=2))
    cos, sin = precompute_freqs_cis(16, 8)
    past = (torch.zeros(1, 2, 5, 16), torch.zeros(1, 2, 5, 16))
    with pytest.raises(ValueError, match="have 8 rows; expected 4, or at least 9"):
        attention(torch.zeros(1, 4, 64), (cos, sin), past_key_value=past)
