"""GatherByExpert and ScatterByExpert, against numpy's indexing and a stable sort."""

from __future__ import annotations

import re
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from native_nodes import DOMAIN, FLOAT, INT64, graph_of, make_session
from onnx import helper

ROWS = tuple(f"rows_{expert}" for expert in range(3))


@cache
def gather_session(choices: int, experts: int = 3):
    outputs = ROWS[: max(1, min(experts, 3))]
    node = helper.make_node("GatherByExpert", ["x", "chosen"], outputs, domain=DOMAIN, experts=experts, choices=choices)
    return make_session(graph_of(node, {"x": (FLOAT, None), "chosen": (INT64, None)}, outputs))


@cache
def scatter_session(experts: int = 3):
    node = helper.make_node("ScatterByExpert", ["chosen", *ROWS], ["y"], domain=DOMAIN, experts=experts)
    inputs = {"chosen": (INT64, None)} | dict.fromkeys(ROWS, (FLOAT, None))
    return make_session(graph_of(node, inputs, ("y",)))


def drawn(seed: int, tokens: int, choices: int, width: int = 5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    chosen = np.array([rng.permutation(3)[:choices] for _ in range(tokens)], np.int64).reshape(-1)
    return rng.standard_normal((tokens, width)).astype(np.float32), chosen


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 99), tokens=st.integers(0, 40), choices=st.integers(1, 3))
def test_each_expert_gets_the_tokens_that_chose_it_in_their_order(seed, tokens, choices):
    x, chosen = drawn(seed, tokens, choices)
    found = gather_session(choices).run(None, {"x": x, "chosen": chosen})
    for expert, rows in enumerate(found):
        np.testing.assert_array_equal(rows, x[np.flatnonzero(chosen == expert) // choices])


def test_tokens_may_have_any_leading_axes():
    x, chosen = drawn(1, 12, 2)
    flat = gather_session(2).run(None, {"x": x, "chosen": chosen})
    shaped = gather_session(2).run(None, {"x": x.reshape(3, 4, 5), "chosen": chosen})
    for one, other in zip(flat, shaped, strict=True):
        np.testing.assert_array_equal(one, other)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 99), tokens=st.integers(0, 40), choices=st.integers(1, 3))
def test_the_rows_of_all_experts_come_back_in_the_order_of_the_choices(seed, tokens, choices):
    _, chosen = drawn(seed, tokens, choices)
    outputs = np.random.default_rng(seed).standard_normal((len(chosen), 7)).astype(np.float32)
    order = np.argsort(chosen, kind="stable")
    feeds = {name: outputs[order][chosen[order] == expert] for expert, name in enumerate(ROWS)}
    (y,) = scatter_session().run(None, feeds | {"chosen": chosen})
    np.testing.assert_array_equal(y, outputs)


@pytest.mark.parametrize(
    ("x", "chosen", "message"),
    [
        ((4, 5), [0, 1, 2, 3], "chosen has expert 3 of 3"),
        ((4, 5), [0, -1, 2, 0], "chosen has expert -1 of 3"),
        ((3, 5), [0, 1, 2, 0], "x is [3, 5] and chosen [4], expected 1 choices of each row"),
        ((), [0], "x is []"),
        ((4, 5), [[0, 1], [2, 0]], "chosen is [2, 2], expected one axis"),
    ],
)
def test_a_gather_refuses_what_does_not_fit(x, chosen, message):
    with pytest.raises(Exception, match=re.escape(message)):
        gather_session(1).run(None, {"x": np.zeros(x, np.float32), "chosen": np.array(chosen, np.int64)})


@pytest.mark.parametrize(
    ("shapes", "chosen", "message"),
    [
        ([(1, 4), (1, 4), (1, 5)], [0, 1, 2], "rows of expert 2 are [1, 5], expected 1 of the first expert's width"),
        ([(1, 4), (2, 4), (0, 4)], [0, 1, 2], "rows of expert 1 are [2, 4], expected 1"),
        ([(4,), (1, 4), (1, 4)], [0, 1, 2], "rows of expert 0 are [4]"),
        ([(1, 4), (1, 4), (1, 4)], [0, 1, 7], "chosen has expert 7 of 3"),
    ],
)
def test_a_scatter_refuses_what_does_not_fit(shapes, chosen, message):
    feeds = {name: np.zeros(shape, np.float32) for name, shape in zip(ROWS, shapes, strict=True)}
    with pytest.raises(Exception, match=re.escape(message)):
        scatter_session().run(None, feeds | {"chosen": np.array(chosen, np.int64)})


@pytest.mark.parametrize(("experts", "choices"), [(0, 1), (5000, 1), (3, 0), (3, 5000)])
def test_numbers_of_experts_and_choices_are_checked(experts, choices):
    with pytest.raises(Exception, match="expected 1 to 4096"):
        gather_session(choices, experts)
