"""Integers and scales as TensorRT takes them, against numbers made by hand."""

from __future__ import annotations

import pytest
import torch

from minimind_edge.export.quantization.formats import TENSORRT
from minimind_edge.export.quantization.rounding import nearest


def centred(weight: torch.Tensor, precision: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The signed integers [out, in] and scales [out, blocks] of a weight [out, in]."""
    matrix = nearest(weight, TENSORRT.of(precision))
    assert matrix.zero_points is None, "TensorRT takes no zero points"
    return torch.from_numpy(matrix.integers).int() - 2 ** (matrix.bits - 1), torch.from_numpy(matrix.scales)


def test_int8_has_a_scale_for_each_output() -> None:
    weight = torch.tensor([[127.0, -63.4, 0.6], [1.0, -2.0, 0.0]])
    integers, scales = centred(weight, "int8")
    # Of -2, 128 steps of 1/64 give both numbers exactly; 127 has to be reached by the largest positive step.
    assert scales.tolist() == [[1.0], [2 / 128]]
    assert integers.tolist() == [[127, -63, 1], [64, -128, 0]]


def test_int4_has_a_scale_for_each_block() -> None:
    weight = torch.cat([torch.full((1, 31), 1.0), torch.tensor([[7.0]]), torch.full((1, 32), -0.5)], dim=1)
    integers, scales = centred(weight, "int4")
    assert scales.shape == (1, 2)
    assert scales[0, 0].item() == 1.0, "every number of the first block lies on the grid of scale 1"
    assert integers[0, :32].tolist() == [1] * 31 + [7]
    assert integers[0, 32:].unique().numel() == 1
    assert (integers[0, 32:] * scales[0, 1]).mean().item() == pytest.approx(-0.5, abs=1e-3)


def test_int4_clips_where_that_serves_the_block() -> None:
    weight = torch.randn((200, 64), generator=torch.Generator().manual_seed(0))
    blocks = weight.unflatten(1, (2, 32))
    integers, scales = centred(weight, "int4")
    error = (integers.unflatten(1, (2, 32)) * scales[..., None] - blocks).square().sum()
    grid = blocks.abs().amax(-1, keepdim=True) / 7
    unclipped = ((blocks / grid).round() * grid - blocks).square().sum()
    assert error < 0.95 * unclipped
    assert integers.min() >= -8
    assert integers.max() <= 7


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_zeros_stay_zeros(precision: str) -> None:
    integers, scales = centred(torch.zeros(3, 32), precision)
    assert not integers.any()
    assert (scales > 0).all()


def test_blocks_need_a_multiple_of_sixteen() -> None:
    assert [TENSORRT.int4.block_of(inputs) for inputs in (64, 48, 40)] == [32, 16, None]
