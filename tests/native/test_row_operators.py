"""SwiGLU and SkipRMSNorm, against numpy in float64 and ONNX Runtime's own operator."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from native_nodes import DOMAIN, EPSILON, FLOAT, graph_of, limit_lanes, make_session
from onnx import helper

RELATIVE = 2e-6
"""A few roundings of float32 (6e-8 each), and the exponential function's 2e-7."""

SHAPES = st.tuples(st.lists(st.integers(0, 3), max_size=2), st.integers(1, 70)).map(lambda drawn: (*drawn[0], drawn[1]))
NORM_INPUTS = {"x": (FLOAT, None), "skip": (FLOAT, None), "weight": (FLOAT, 1)}


@cache
def swiglu_session(lanes: int, threads: int = 1):
    assert limit_lanes(lanes) == lanes
    node = helper.make_node("SwiGLU", ["x"], ["y"], domain=DOMAIN)
    return make_session(graph_of(node, {"x": (FLOAT, None)}, ("y",)), threads)


@cache
def norm_session(lanes: int, outputs: tuple[str, ...] = ("y", "sum"), threads: int = 1):
    assert limit_lanes(lanes) == lanes
    node = helper.make_node("SkipRMSNorm", list(NORM_INPUTS), list(outputs), domain=DOMAIN, epsilon=EPSILON)
    return make_session(graph_of(node, NORM_INPUTS, outputs), threads)


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def gated(x: np.ndarray) -> np.ndarray:
    gate, up = np.split(x.astype(np.float64), 2, axis=-1)
    return gate / (1 + np.exp(-gate)) * up


def norm_of_sum(x: np.ndarray, skip: np.ndarray, weight: np.ndarray) -> np.ndarray:
    total = (x + skip).astype(np.float64)
    return total / np.sqrt(np.mean(total**2, axis=-1, keepdims=True) + EPSILON) * weight


@pytest.mark.parametrize("threads", [1, 3])
def test_swiglu_is_silu_of_the_first_half_times_the_second(lanes, threads):
    for width in (*range(1, 40), 1408, 2048):
        x = 10 * normal(width, 3, 7, 2 * width)
        (y,) = swiglu_session(lanes, threads).run(None, {"x": x})
        np.testing.assert_allclose(y, gated(x), rtol=RELATIVE, atol=1e-30)


@settings(max_examples=40, deadline=None)
@given(shape=SHAPES, seed=st.integers(0, 99))
def test_swiglu_takes_any_leading_axes(shape, seed):
    x = normal(seed, *shape[:-1], 2 * shape[-1])
    (y,) = swiglu_session(limit_lanes(16)).run(None, {"x": x})
    assert y.shape == shape
    np.testing.assert_allclose(y, gated(x), rtol=RELATIVE, atol=1e-30)


def test_swiglu_of_large_numbers_and_of_none(lanes):
    x = np.array([[-1e30, -90, -80, 80, 90, 1e30, np.nan, 0] + [2] * 8], np.float32)
    (y,) = swiglu_session(lanes).run(None, {"x": x})
    assert np.isnan(y[0, 6])
    with np.errstate(over="ignore"):
        right = np.delete(gated(x), 6)
    # Past e^88 the gate is taken as e^-88, so that a huge negative number gives a relatively tiny one instead of zero.
    np.testing.assert_allclose(np.delete(y, 6)[1:], right[1:], rtol=1e-5, atol=1e-30)
    assert abs(y[0, 0]) <= 2 * 1e30 * 6.1e-39


def test_skip_rms_norm_gives_the_norm_and_the_sum(lanes):
    for width in (*range(1, 40), 512, 768):
        x, skip, weight = normal(1, 2, 5, width), normal(2, 2, 5, width), normal(3, width)
        y, total = norm_session(lanes).run(None, {"x": x, "skip": skip, "weight": weight})
        assert np.array_equal(total, x + skip)
        right = norm_of_sum(x, skip, weight)
        np.testing.assert_allclose(y, right, rtol=RELATIVE)
        (alone,) = norm_session(lanes, ("y",)).run(None, {"x": x, "skip": skip, "weight": weight})
        assert np.array_equal(alone, y)


@settings(max_examples=40, deadline=None)
@given(shape=SHAPES, seed=st.integers(0, 99))
def test_skip_rms_norm_takes_any_leading_axes(shape, seed):
    x, skip, weight = normal(seed, *shape), normal(seed + 1, *shape), normal(seed + 2, shape[-1])
    y, total = norm_session(limit_lanes(16)).run(None, {"x": x, "skip": skip, "weight": weight})
    assert y.shape == total.shape == shape
    np.testing.assert_allclose(y, norm_of_sum(x, skip, weight), rtol=RELATIVE, atol=1e-30)


def test_skip_rms_norm_agrees_with_onnx_runtime(lanes):
    node = helper.make_node(
        "SkipSimplifiedLayerNormalization",
        list(NORM_INPUTS),
        ["y", "", "", "sum"],
        domain="com.microsoft",
        epsilon=EPSILON,
    )
    inputs = {"x": (FLOAT, 3), "skip": (FLOAT, 3), "weight": (FLOAT, 1)}
    feeds = {"x": normal(1, 3, 5, 512), "skip": normal(2, 3, 5, 512), "weight": normal(3, 512)}
    right = make_session(graph_of(node, inputs, ("y", "sum"))).run(None, feeds)
    for ours, theirs in zip(norm_session(lanes).run(None, feeds), right, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=RELATIVE)


def test_many_rows_are_shared_out_to_threads_without_changing_a_bit(lanes):
    x, skip, weight = normal(1, 70, 512), normal(2, 70, 512), normal(3, 512)
    feeds = {"x": x, "skip": skip, "weight": weight}
    alone, shared = (norm_session(lanes, threads=threads).run(None, feeds) for threads in (1, 3))
    assert all(np.array_equal(a, b) for a, b in zip(alone, shared, strict=True))
    alone, shared = (swiglu_session(lanes, threads).run(None, {"x": x}) for threads in (1, 3))
    assert np.array_equal(alone[0], shared[0])


@pytest.mark.parametrize("shape", [(), (3,), (2, 5)])
def test_swiglu_refuses_an_odd_width(lanes, shape):
    with pytest.raises(Exception, match=r"SwiGLU: x is .*expected a last axis of an even size"):
        swiglu_session(lanes).run(None, {"x": np.zeros(shape, np.float32)})


@pytest.mark.parametrize(
    ("x", "skip", "weight"),
    [((2, 8), (2, 7), 8), ((2, 8), (8,), 8), ((2, 8), (2, 8), 7), ((), (), 1), ((2, 0), (2, 0), 1)],
)
def test_skip_rms_norm_refuses_shapes_that_do_not_fit(lanes, x, skip, weight):
    feeds = {"x": np.zeros(x, np.float32), "skip": np.zeros(skip, np.float32), "weight": np.zeros(weight, np.float32)}
    with pytest.raises(Exception, match="SkipRMSNorm: x is "):
        norm_session(lanes).run(None, feeds)


def test_tensors_of_too_many_axes_are_refused(lanes):
    with pytest.raises(Exception, match="x has too many axes"):
        swiglu_session(lanes).run(None, {"x": np.zeros((1,) * 8 + (2,), np.float32)})
