"""Integers and scales against numbers made by hand."""

from __future__ import annotations

import pytest
import torch

from minimind_edge.export.graph.quantize_qdq import Int4PerBlock, Int8PerChannel


def test_int8_has_a_scale_for_each_output() -> None:
    weight = torch.tensor([[127.0, 1.0], [-63.4, -2.0], [0.6, 0.0]])  # [in, out]
    integers, scales = Int8PerChannel().quantize(weight)
    assert scales.tolist() == [1.0, torch.tensor(2 / 127).half().item()]
    assert integers.tolist() == [[127, 64], [-63, -127], [1, 0]]


def test_int4_has_a_scale_for_each_block() -> None:
    weight = torch.cat([torch.full((31, 1), 1.0), torch.tensor([[7.0]]), torch.full((32, 1), -0.5)])
    integers, scales = Int4PerBlock().quantize(weight)
    assert scales.shape == (2, 1)
    assert scales[0].item() == 1.0, "every number of the first block lies on the grid of scale 1"
    assert integers[:32, 0].tolist() == [1] * 31 + [7]
    assert integers[32:].unique().numel() == 1
    assert (integers[32:] * scales[1]).mean().item() == pytest.approx(-0.5, abs=1e-3)


def test_int4_clips_where_that_serves_the_block() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn((64, 200), generator=generator)
    integers, scales = Int4PerBlock().quantize(weight)
    plain = weight.unflatten(0, (2, 32)).abs().amax(1) / 7
    error = (integers.unflatten(0, (2, 32)) * scales[:, None] - weight.unflatten(0, (2, 32))).square().sum()
    grid = plain[:, None]
    unclipped = ((weight.unflatten(0, (2, 32)) / grid).round() * grid - weight.unflatten(0, (2, 32))).square().sum()
    assert error < 0.95 * unclipped
    assert integers.min() >= -8
    assert integers.max() <= 7


@pytest.mark.parametrize("quantization", [Int8PerChannel(), Int4PerBlock()])
def test_zeros_stay_zeros(quantization: Int8PerChannel | Int4PerBlock) -> None:
    integers, scales = quantization.quantize(torch.zeros(32, 3))
    assert not integers.any()
    assert (scales > 0).all()


def test_blocks_need_a_multiple_of_sixteen() -> None:
    quantization = Int4PerBlock()
    assert [quantization.fits(inputs) for inputs in (64, 48, 40)] == [True, True, False]
    assert quantization.attributes(64) == {"axis": 0, "block_size": 32}
    assert quantization.attributes(48) == {"axis": 0, "block_size": 16}
    assert quantization.scale_shape(48, 5) == (3, 5)
