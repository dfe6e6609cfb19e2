"""Rounding that makes up for its errors: against a plain statement, by hand, and against rounding to the nearest."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from minimind_edge.export.quantization.formats import Format
from minimind_edge.export.quantization.gptq import (
    DAMPING,
    correlation_of,
    gptaq_target,
    gptq_integers,
    gptq_matrix,
    hessian_of,
)
from minimind_edge.export.quantization.rounding import Grid, fit_grid, nearest


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def correlated_inputs(tokens: int, width: int) -> torch.Tensor:
    return draw(tokens, width, seed=1) @ draw(width, width, seed=2) + 2 * draw(tokens, 1, seed=3)


def plain_gptq(weight: np.ndarray, scales: np.ndarray, zeros: np.ndarray, hessian: np.ndarray) -> np.ndarray:
    """The optimal brain surgeon's update with the inverse made anew for each input: no factor, no blocks."""
    inputs = weight.shape[1]
    damped = hessian + DAMPING * hessian.diagonal().mean() * np.eye(inputs)
    left, remaining = weight.astype(np.float64).copy(), list(np.argsort(-hessian.diagonal(), kind="stable"))
    integers = np.zeros_like(left)
    while remaining:
        inverse = np.linalg.inv(damped[np.ix_(remaining, remaining)])
        first = remaining[0]
        integers[:, first] = np.clip(np.round(left[:, first] / scales[:, first] + zeros[:, first]), 0, 15)
        error = left[:, first] - (integers[:, first] - zeros[:, first]) * scales[:, first]
        left[:, remaining] -= np.outer(error / inverse[0, 0], inverse[0])
        remaining = remaining[1:]
    return integers


def test_it_is_the_plain_algorithm() -> None:
    weight, hessian = draw(24, 160), hessian_of(correlated_inputs(400, 160))
    grid = fit_grid(weight, 4, 32, symmetric=False)
    scales, zeros = (part.repeat_interleave(32, dim=1).double().numpy() for part in (grid.scales, grid.zeros))
    expected = plain_gptq(weight.numpy(), scales, zeros, hessian.double().numpy())
    found = gptq_integers(weight, grid, hessian).numpy()
    # float32 against float64: one that lies in the middle of two integers may go either way, and takes its row along
    assert (found == expected).mean() > 0.97


def test_by_hand_the_second_input_makes_up_for_the_first() -> None:
    # Two inputs that are always alike: 0.4 + 0.4 is 0.8, and one of the two has to be 1.
    weight, hessian = torch.tensor([[0.4, 0.4]]), torch.tensor([[1.0, 1.0], [1.0, 1.0]])
    grid = Grid(bits=4, block=2, symmetric=True, scales=torch.ones(1, 1), zeros=torch.full((1, 1), 8.0))
    assert grid.integers(weight).tolist() == [[8, 8]]
    assert gptq_integers(weight, grid, hessian).tolist() == [[8, 9]]


@pytest.mark.parametrize("wanted", [Format(4, 32, False), Format(4, 64, True), Format(8, 32, True)])
def test_the_output_errors_are_less_than_those_of_the_nearest(wanted: Format) -> None:
    weight, inputs = draw(48, 128), correlated_inputs(512, 128)

    def error(values: np.ndarray) -> float:
        return float((inputs @ (weight - torch.from_numpy(values)).T).square().mean())

    better = error(gptq_matrix(weight, wanted, hessian_of(inputs)).dequantized())
    assert better < 0.6 * error(nearest(weight, wanted).dequantized())


def test_a_moved_target_gives_what_the_float_inputs_gave() -> None:
    weight, wanted = draw(16, 32), correlated_inputs(600, 32)
    inputs = wanted @ (torch.eye(32) + 0.1 * draw(32, 32, seed=9))  # what rounded layers before made of them
    moved = gptaq_target(weight, hessian_of(inputs), correlation_of(wanted, inputs))
    before, after = (((inputs @ one.T) - wanted @ weight.T).square().mean() for one in (weight, moved))
    assert after < 0.2 * before


@pytest.mark.parametrize("width", [5, 200, 900])
def test_a_hessian_is_the_mean_of_outer_products(width: int) -> None:
    inputs = draw(40, width)
    expected = np.mean([np.outer(row, row) for row in inputs.double().numpy()], axis=0)
    found = hessian_of(inputs).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)  # float32's rounding of sums of 40 numbers of size 1
    assert (found == found.T).all()


def test_layers_that_are_rounded_together_get_the_integers_that_they_get_alone() -> None:
    weights, hessian = [draw(24, 160), 2 * draw(8, 160, seed=5)], hessian_of(correlated_inputs(400, 160))
    wanted = Format(4, 32, False)
    together = gptq_matrix(torch.cat(weights), wanted, hessian).split([24, 8])
    for weight, found in zip(weights, together, strict=True):
        alone = gptq_matrix(weight, wanted, hessian)
        # Products of other sizes are rounded differently, which decides where a weight is between two integers.
        assert (found.integers == alone.integers).mean() > 0.97
        assert np.array_equal(found.scales, alone.scales)
        assert found.zero_points is not None
        assert np.array_equal(found.zero_points, alone.zero_points)


def test_the_statistics_of_an_expert_weigh_tokens_by_their_shares() -> None:
    inputs, shares = torch.tensor([[2.0], [10.0]]), torch.tensor([0.5, 0.0])
    # (0.5 * 2)^2 over two tokens; and 5 % of the mean square of all, 52, times 1/2, the least mean square share
    assert hessian_of(inputs, shares).item() == pytest.approx(0.5 + 0.05 * 52 * 0.5)


def test_an_expert_that_no_token_reaches_is_rounded_for_all_of_them() -> None:
    weight, inputs = draw(8, 32), correlated_inputs(100, 32)
    unreached = gptq_matrix(weight, Format(4, 32, False), hessian_of(inputs, torch.zeros(100)))
    everywhere = gptq_matrix(weight, Format(4, 32, False), hessian_of(inputs))
    assert (unreached.integers == everywhere.integers).mean() > 0.97


def test_inputs_that_are_always_zero_do_no_harm() -> None:
    weight = draw(4, 32)
    matrix = gptq_matrix(weight, Format(4, 32, False), torch.zeros(32, 32))
    assert np.isfinite(matrix.dequantized()).all()
    assert np.abs(matrix.dequantized() - weight.numpy()).max() < weight.abs().max() / 7
