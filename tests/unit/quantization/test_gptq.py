"""Rounding that makes up for its errors: against a plain statement, by hand, and against rounding to the nearest."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from minimind_edge.export.progress import silent
from minimind_edge.export.quantization.formats import Format
from minimind_edge.export.quantization.gptq import (
    DAMPING,
    difference_of,
    expert_sample,
    gptaq_target,
    gptq_integers,
    gptq_matrix,
    gptq_quantize,
    hessian_of,
)
from minimind_edge.export.quantization.layer_groups import model_groups
from minimind_edge.export.quantization.rounding import Grid, fit_grid, nearest
from minimind_edge.minimind import MiniMindConfig, MiniMindForCausalLM


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
    moved = gptaq_target(weight, hessian_of(inputs), difference_of(wanted, inputs))
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


def test_an_expert_has_the_tokens_that_reach_it_and_some_of_the_others() -> None:
    shares = torch.zeros(41)
    shares[[3, 20]] = torch.tensor([0.5, 1.0])
    chosen, weights = expert_sample(shares)
    # The 39 others are 0, 1, 2, 4, ..., of which every fourth is taken.
    others = [index for index in range(41) if index not in (3, 20)]
    assert chosen.tolist() == sorted([3, 20, *others[::4]])
    # 5 % of the mean square share for every token, whose sum over the other tokens stays as it was
    everywhere = 0.05 * (0.5**2 + 1.0**2) / 41
    assert dict(zip(chosen.tolist(), weights.tolist(), strict=True))[3] == pytest.approx(0.25 + everywhere)
    assert weights.sum().item() == pytest.approx(1.25 + 41 * everywhere)


def test_weighted_statistics_are_means_of_weighted_outer_products() -> None:
    exact, inputs, weights = draw(30, 6), draw(30, 6, seed=1), draw(30, seed=2).abs()
    rows = list(zip(weights.tolist(), exact.double().numpy(), inputs.double().numpy(), strict=True))
    hessian = np.mean([weight * np.outer(met, met) for weight, _, met in rows], axis=0)
    difference = np.mean([weight * np.outer(wanted - met, met) for weight, wanted, met in rows], axis=0)
    # float32's rounding of sums of 30 numbers of size 1
    np.testing.assert_allclose(hessian_of(inputs, weights).numpy(), hessian, atol=1e-5)
    # bfloat16 keeps 8 bits: of numbers up to 10, and of their sum
    np.testing.assert_allclose(difference_of(exact, inputs, weights).numpy(), difference, atol=0.03)


def test_an_expert_that_no_token_reaches_is_rounded_for_a_sample_of_all() -> None:
    weight, inputs = draw(8, 32), correlated_inputs(100, 32)
    chosen, weights = expert_sample(torch.zeros(100))
    unreached = gptq_matrix(weight, Format(4, 32, False), hessian_of(inputs[chosen], weights))
    sample = gptq_matrix(weight, Format(4, 32, False), hessian_of(inputs[::4]))
    assert (unreached.integers == sample.integers).mean() > 0.97  # equal weights: a Hessian of another scale


def test_bfloat16_costs_no_accuracy(monkeypatch: pytest.MonkeyPatch) -> None:
    config = MiniMindConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1)
    torch.manual_seed(0)
    model = MiniMindForCausalLM(config).eval()
    formats = dict.fromkeys(model_groups(model), Format(4, 32, False))
    tokens = torch.randint(config.vocab_size, (16, 32), generator=torch.Generator().manual_seed(0))
    errors, integers = [], []
    for has_instructions in (False, True):
        monkeypatch.setattr(
            torch.cpu, "get_capabilities", lambda has=has_instructions: {"avx512_bf16": has}, raising=False
        )
        changed = copy.deepcopy(model)
        embedded = changed.model.embed_tokens(tokens).detach()
        matrices = gptq_quantize(changed, formats, tokens, embedded, silent)
        integers.append(np.concatenate([matrix.integers.ravel() for matrix in matrices.values()]))
        with torch.no_grad():
            errors.append((changed(tokens).logits - model(tokens).logits).square().mean().item())
    assert not np.array_equal(*integers)  # it is in use
    # Which of two near integers a weight gets is chance; the errors of all outputs together vary by a few percent.
    assert errors[1] == pytest.approx(errors[0], rel=0.1)


def test_inputs_that_are_always_zero_do_no_harm() -> None:
    weight = draw(4, 32)
    matrix = gptq_matrix(weight, Format(4, 32, False), torch.zeros(32, 32))
    assert np.isfinite(matrix.dequantized()).all()
    assert np.abs(matrix.dequantized() - weight.numpy()).max() < weight.abs().max() / 7
