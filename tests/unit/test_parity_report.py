"""The verdict and the report, from measurements made by hand."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from minimind_edge.export.divergence import TokenErrors
from minimind_edge.export.parity import ParityReport
from minimind_edge.export.parity.measurement import LayerErrors, Measurement, TensorError
from minimind_edge.export.parity.tolerance import FP32, Tolerance, tolerance_of


def measurement(**changes: object) -> Measurement:
    """Four tokens, the last two of them greedy; nothing out of bounds."""
    errors = TokenErrors(
        max_abs=np.array([1e-6, 2e-6, 4e-6, 3e-6]),
        scale=np.array([2.0, 8.0, 4.0, 1.0]),
        kl=np.array([0.0, 1e-9, 3e-9, 0.0]),
        margin=np.array([0.5, 0.25, 2.0, 1.0]),
        expected=np.array([5, 6, 7, 8]),
        found=np.array([5, 6, 7, 8]),
    )
    exact = TensorError(np.zeros(4), 1.0)
    base = Measurement(
        case="by hand",
        runner="graph",
        errors=errors,
        comparable=np.ones(4, np.bool_),
        greedy=np.array([False, False, True, True]),
        layers=(LayerErrors(exact, exact), LayerErrors(exact, TensorError(np.array([0.0, 2e-6, 1e-6, 0.0]), 4.0))),
    )
    return dataclasses.replace(base, **changes)


def report(*measurements: Measurement, tolerance: Tolerance = FP32, has_experts: bool = False) -> ParityReport:
    return ParityReport.of(
        measurements, tolerance, target="ort", precision="fp32", has_experts=has_experts, seconds=0.25
    )


def with_errors(**changes: object) -> Measurement:
    return measurement(errors=dataclasses.replace(measurement().errors, **changes))


def test_numbers_of_a_pass() -> None:
    found = report(measurement()).to_json()
    assert found["passed"] is True
    assert found["failures"] == []
    assert found["tokens"] == 4
    assert found["logits"]["max_abs"] == 4e-6
    assert found["logits"]["max_rel"] == 4e-6 / 8.0
    assert found["logits"]["mean_kl"] == pytest.approx(1e-9)
    assert found["logits"]["top1"] == 1.0
    assert found["logits"]["quantiles"]["p50"] == pytest.approx(2.5e-6)
    assert found["greedy"] == {"equal": 2, "total": 2, "first_difference": None}
    assert found["presents"] == {"max_abs": 2e-6, "max_rel": 5e-7}
    assert found["experts"] is None
    assert found["first_departing_layer"] is None


def test_json_round_trips() -> None:
    for found in (report(), report(measurement()), report(measurement(), tolerance=tolerance_of("fp16", 8))):
        assert json.loads(json.dumps(found.to_json(), allow_nan=False)) == found.to_json()


def test_summary_is_one_line_that_tells_the_outcome() -> None:
    assert report(measurement()).summary().startswith("parity of the ort graph in fp32 passed: 4 tokens")
    failed = report().summary()
    assert (
        failed
        == "parity of the ort graph in fp32 failed: nothing was compared: no token of any case, expected at least 1"
    )


def test_a_greedy_flip_fails_whatever_its_margin() -> None:
    flipped = with_errors(found=np.array([5, 6, 7, 9]), margin=np.array([0.5, 0.25, 2.0, 1e-7]))
    result = report(flipped, measurement(runner="session"))
    assert not result
    assert result.to_json()["greedy"] == {
        "equal": 1,
        "total": 2,
        "first_difference": {"runner": "graph", "token": 1, "expected": 8, "found": 9, "margin": 1e-7},
    }
    assert any("greedy 1 of 2 tokens equal" in line and "margin 1.00e-07" in line for line in result.failures)


@pytest.mark.parametrize(
    ("largest", "scale", "words"),
    [(5e-4, 1.0, "max |logit| 5.00e-04, bound 1.00e-04"), (4e-3, 32.0, "max |logit| 1.25e-04, bound 1.00e-04")],
)
def test_the_logits_are_bound_by_their_largest(largest: float, scale: float, words: str) -> None:
    assert report(with_errors(max_abs=np.full(4, 0.9e-4 * scale), scale=np.full(4, scale)))
    result = report(with_errors(max_abs=np.full(4, largest), scale=np.full(4, scale)))
    assert any(words in line and "by hand (graph), 100.00% of tokens out of bounds" in line for line in result.failures)
    assert result.to_json()["first_departing_layer"] == "head"


def test_mean_kl_is_bounded_over_all_cases_of_a_runner() -> None:
    spread = report(with_errors(kl=np.array([0.0, 0.0, 0.0, 1.6e-6])), measurement())
    assert spread, spread.failures
    result = report(with_errors(kl=np.array([0.0, 0.0, 1.6e-6, 8e-6])), measurement())
    assert [line.split(",")[0] for line in result.failures] == ["mean KL 1.20e-06 nats"]


def test_nan_is_out_of_bounds() -> None:
    assert not report(with_errors(max_abs=np.array([0.0, np.nan, 0.0, 0.0])))
    assert not report(with_errors(kl=np.array([0.0, np.nan, 0.0, 0.0])))
    broken = TensorError(np.array([0.0, np.nan, 0.0, 0.0]), 1.0)
    assert not report(measurement(layers=(LayerErrors(broken, broken),)))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"layers": ()}, "no present tensor was compared"),
        ({"greedy": np.zeros(4, np.bool_)}, "no greedy token was compared"),
        ({"comparable": np.zeros(4, np.bool_)}, "no token took eager's route"),
    ],
)
def test_what_was_not_compared_fails(changes: dict[str, object], words: str) -> None:
    assert any(words in line for line in report(measurement(**changes)).failures)


def test_another_expert_fails_in_float32_and_is_counted_in_float16() -> None:
    same = tuple(np.ones(100, np.bool_) for _ in range(2))
    same[1][42] = False
    one = measurement(same_experts=same)
    strict = report(one, has_experts=True)
    assert strict.to_json()["experts"] == {"equal": 199, "total": 200}
    assert strict.to_json()["first_departing_layer"] == 1
    assert report(one, tolerance=tolerance_of("fp16", 2), has_experts=True)


def test_tokens_on_another_route_count_for_the_shares_alone() -> None:
    errors = dataclasses.replace(measurement().errors, max_abs=np.array([1e-6, 9.0, 1e-6, 1e-6]))
    one = measurement(errors=errors, comparable=np.array([True, False, True, True]))
    assert report(one).max_abs == 1e-6


def test_few_tokens_may_be_out_of_bounds_in_float16() -> None:
    bounds = tolerance_of("fp16", 2)

    def outliers(count: int) -> ParityReport:
        errors = {name: np.zeros(100) for name in ("kl", "margin")}
        errors |= {"scale": np.ones(100), "max_abs": np.where(np.arange(100) < count, 0.5, 1e-3)}
        tokens = {name: np.zeros(100, np.int64) for name in ("expected", "found")}
        every = np.ones(100, np.bool_)
        exact = TensorError(np.zeros(100), 1.0)
        return report(
            measurement(
                errors=TokenErrors(**errors, **tokens),
                comparable=every,
                greedy=every,
                layers=(LayerErrors(exact, exact),),
            ),
            tolerance=bounds,
        )

    assert outliers(5)
    assert [line.split(",")[0] for line in outliers(6).failures] == ["logits max abs / max |logit| 5.00e-01"]


def test_float16_bound_by_hand() -> None:
    # 4 * 2^-11 * sqrt(12 * 3) = 24 / 2048
    assert tolerance_of("fp16", 3).logits_rel == pytest.approx(24 / 2048)


def test_rows_are_for_people() -> None:
    rows = {row.quantity: row for row in report(measurement()).rows()}
    assert (rows["logits max abs"].measured, rows["logits max abs"].bound) == ("4.00e-06", "")
    assert rows["greedy tokens equal"].measured == "2 of 2"
    assert rows["first divergence (layer)"].measured == "none"
    assert "experts equal" not in rows
