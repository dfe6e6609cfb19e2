"""Attention against the written formula, and its two implementations against each other."""

from __future__ import annotations

import math

import pytest
import torch

from minimind_edge.minimind import Attention, MiniMindConfig, apply_rotary_pos_emb, precompute_freqs_cis, repeat_kv

HEAD_DIM = 16
HEADS = {"MHA": (4, 4), "GQA": (4, 2), "MQA": (4, 1)}
# Which slots of [B=2, P+S] are real; P is what stands before the last 6.
MASKS = {
    "no padding": [[1] * 6] * 2,
    "left padding": [[0, 0, 1, 1, 1, 1], [1] * 6],
    "right padding": [[1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 0]],
    "both sides": [[0, 1, 1, 1, 0, 0], [1] * 6],
    "behind a past": [[1] * 10] * 2,
    "behind a padded past": [[0, 0, 1, 1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 1, 1, 1, 1, 1, 0]],
}


def attention_of(heads, **fields):
    torch.manual_seed(0)
    query_heads, kv_heads = HEADS[heads]
    config = MiniMindConfig(hidden_size=64, num_attention_heads=query_heads, num_key_value_heads=kv_heads, **fields)
    layer = Attention(config).eval()
    for parameter in layer.parameters():
        parameter.data = torch.randn_like(parameter) * (0.3 if parameter.dim() == 2 else 1.0)
    return layer


def inputs_of(mask, kv_heads):
    torch.manual_seed(1)
    mask = torch.tensor(mask)
    past = mask.shape[1] - 6
    x = torch.randn(2, 6, 64)
    cos, sin = precompute_freqs_cis(HEAD_DIM, mask.shape[1])
    shape = (2, kv_heads, past, HEAD_DIM)
    past_key_value = (torch.randn(shape), torch.randn(shape))
    return x, (cos[past:], sin[past:]), past_key_value, mask


def formula(layer, x, position_embeddings, past_key_value, mask):
    """Softmax(Q K^T / sqrt(D)) V, one token at a time over the keys it may see; rows without any are left at 0."""
    q = layer.q_norm(layer.q_proj(x).view(2, 6, -1, HEAD_DIM))
    k = layer.k_norm(layer.k_proj(x).view(2, 6, -1, HEAD_DIM))
    q, k = apply_rotary_pos_emb(q, k, *position_embeddings)
    v = layer.v_proj(x).view(2, 6, -1, HEAD_DIM)
    keys = torch.cat((past_key_value[0], k.transpose(1, 2)), dim=2)
    values = torch.cat((past_key_value[1], v.transpose(1, 2)), dim=2)
    group = q.shape[2] // keys.shape[1]
    mixed = torch.zeros_like(q)
    for row, slot in torch.cartesian_prod(torch.arange(2), torch.arange(6)).tolist():
        seen = [key for key in range(keys.shape[2] - 6 + slot + 1) if mask[row, key]]
        if seen:
            of_head = keys[row, :, seen].repeat_interleave(group, 0), values[row, :, seen].repeat_interleave(group, 0)
            scores = (of_head[0] @ q[row, slot, :, :, None]) / math.sqrt(HEAD_DIM)
            mixed[row, slot] = (scores.softmax(1) * of_head[1]).sum(1)
    return layer.o_proj(mixed.flatten(2)), (keys, values)


@pytest.mark.parametrize("flash_attn", [True, False], ids=["fused", "written out"])
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("heads", HEADS)
@torch.no_grad()
def test_attention_is_its_formula(heads, mask, flash_attn):
    layer = attention_of(heads, flash_attn=flash_attn)
    x, position_embeddings, past_key_value, mask = inputs_of(mask, HEADS[heads][1])
    output, present = layer(x, position_embeddings, past_key_value, use_cache=True, attention_mask=mask)
    expected, expected_present = formula(layer, x, position_embeddings, past_key_value, mask)
    real = mask[:, -6:].bool()
    torch.testing.assert_close(output[real], expected[real], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(present, expected_present)
    assert torch.isfinite(output).all()


@pytest.mark.parametrize("qk_norm", [False, True])
@torch.no_grad()
def test_query_and_key_norm_come_before_rope(qk_norm):
    layer = attention_of("GQA", qk_norm=qk_norm)
    x, position_embeddings, past_key_value, mask = inputs_of(MASKS["behind a past"], 2)
    output, _ = layer(x, position_embeddings, past_key_value, attention_mask=mask)
    expected, _ = formula(layer, x, position_embeddings, past_key_value, mask)
    torch.testing.assert_close(output, expected, atol=1e-5, rtol=1e-5)
    assert hasattr(layer.q_norm, "weight") is qk_norm


@pytest.mark.parametrize("flash_attn", [True, False], ids=["fused", "written out"])
@pytest.mark.parametrize("past", [0, 4])
@torch.no_grad()
def test_no_mask_means_all_ones(flash_attn, past):
    layer = attention_of("GQA", flash_attn=flash_attn)
    x, position_embeddings, past_key_value, mask = inputs_of([[1] * (6 + past)] * 2, 2)
    masked, _ = layer(x, position_embeddings, past_key_value, attention_mask=mask)
    unmasked, _ = layer(x, position_embeddings, past_key_value if past else None)
    torch.testing.assert_close(unmasked, masked, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_both_implementations_agree_in_training_without_dropout():
    fused, written_out = (attention_of("GQA", flash_attn=flash).train() for flash in (True, False))
    x, position_embeddings, past_key_value, mask = inputs_of(MASKS["behind a padded past"], 2)
    outputs = [layer(x, position_embeddings, past_key_value, attention_mask=mask)[0] for layer in (fused, written_out)]
    torch.testing.assert_close(*outputs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("flash_attn", [True, False], ids=["fused", "written out"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@torch.no_grad()
def test_half_precision_stays_finite_and_near(flash_attn, dtype):
    layer = attention_of("GQA", flash_attn=flash_attn)
    x, position_embeddings, past_key_value, mask = inputs_of(MASKS["behind a padded past"], 2)
    expected, _ = layer(x, position_embeddings, past_key_value, attention_mask=mask)
    narrow_past = tuple(tensor.to(dtype) for tensor in past_key_value)
    output, _ = layer.to(dtype)(x.to(dtype), position_embeddings, narrow_past, attention_mask=mask)
    assert output.dtype == dtype
    assert torch.isfinite(output).all()
    real = mask[:, -6:].bool()
    torch.testing.assert_close(output[real].float(), expected[real], atol=0.2, rtol=0.05)


def test_repeat_kv_repeats_each_head_in_place():
    x = torch.arange(2 * 3 * 2 * 4).view(2, 3, 2, 4)
    assert torch.equal(repeat_kv(x, 3), x.repeat_interleave(3, dim=2))
    assert repeat_kv(x, 1) is x
    assert repeat_kv(x, 3)[0, 0, :, 0].tolist() == [0, 0, 0, 4, 4, 4]


def test_without_cache_nothing_is_returned():
    layer = attention_of("GQA")
    output, present = layer(torch.randn(1, 3, 64), precompute_freqs_cis(HEAD_DIM, 3))
    assert output.shape == (1, 3, 64)
    assert present is None
