"""The additive mask and the positions, written out by hand."""

from __future__ import annotations

import pytest
import torch

from minimind_edge.minimind.mask import causal_bias, positions_from_mask

CPU = torch.device("cpu")


def visible(attention_mask, query_length, key_length, dtype=torch.float32):
    """1 where the bias lets a query see a key."""
    return (causal_bias(attention_mask, query_length, key_length, dtype, CPU) == 0).int().tolist()


def test_first_pass_is_the_lower_triangle():
    assert visible(None, 3, 3) == [[[[1, 0, 0], [1, 1, 0], [1, 1, 1]]]]


def test_chunk_behind_a_past_sees_the_past_and_itself():
    assert visible(None, 2, 5) == [[[[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]]]


def test_decode_step_sees_everything():
    assert visible(None, 1, 4) == [[[[1, 1, 1, 1]]]]


def test_padding_is_hidden_on_either_side():
    mask = torch.tensor([[0, 1, 1], [1, 1, 0]])
    assert visible(mask, 3, 3) == [
        [[[0, 0, 0], [0, 1, 0], [0, 1, 1]]],
        [[[1, 0, 0], [1, 1, 0], [1, 1, 0]]],
    ]


def test_boolean_mask_is_as_good_as_an_integer_one():
    mask = torch.tensor([[0, 1, 1]])
    assert visible(mask.bool(), 2, 3) == visible(mask, 2, 3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_hidden_keys_get_no_weight_and_hidden_rows_stay_finite(dtype):
    bias = causal_bias(torch.tensor([[0, 1, 1]]), 3, 3, dtype, CPU)
    assert bias.dtype == dtype
    assert bias.shape == (1, 1, 3, 3)
    loud = torch.full((3, 3), 1000.0, dtype=dtype)
    weights = torch.softmax((bias[0, 0] - loud).float(), dim=-1)
    assert torch.isfinite(bias - loud).all()
    assert torch.isfinite(weights).all()
    assert weights[1].tolist() == [0.0, 1.0, 0.0]
    assert weights[2].tolist() == [0.0, 0.5, 0.5]


@pytest.mark.parametrize(
    ("mask", "query_length", "positions"),
    [
        ([1, 1, 1], 3, [0, 1, 2]),
        ([0, 0, 1, 1], 4, [0, 0, 0, 1]),
        ([1, 1, 0, 0], 4, [0, 1, 1, 1]),
        ([0, 1, 1, 1], 2, [1, 2]),
        ([1, 1, 0, 1], 1, [2]),
    ],
)
def test_positions_count_the_real_tokens_before(mask, query_length, positions):
    result = positions_from_mask(torch.tensor([mask]), query_length)
    assert result.dtype == torch.int64
    assert result.tolist() == [positions]
