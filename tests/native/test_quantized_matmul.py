"""QuantizedMatMul, against numpy in float64 and ONNX Runtime's MatMulNBits."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from native_nodes import limit_lanes, make_session
from quantized_product import (
    LEAST,
    Weight,
    assert_right,
    expected,
    filled,
    make_weight,
    multiply,
    product_graph,
    product_session,
    quantized_activations,
)

BITS = [4, 8]
BLOCKS = [16, 32, 64, 128, 256]
ROWS = [0, 1, 2, 3, 4, 5, 8, 9, 31, 129, 300]
COLUMNS = [1, 7, 8, 9, 16, 17, 33, 48, 100]
"""Fewer than a vector's lanes, whole vectors of both kinds, and even and odd numbers of them."""

GATE = 2e-6
"""As of SwiGLU alone: a few roundings of float32 (6e-8 each), and the exponential function's 2e-7."""


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def assert_gated(y: np.ndarray, weight: Weight, x: np.ndarray) -> None:
    """SiLU's derivative is at most 1.1, so that an error of the gate grows by no more."""
    (gate, up), (gate_error, up_error) = (np.split(each, 2, axis=1) for each in expected(weight, x))
    silu = gate / (1 + np.exp(-gate))
    error = 1.1 * gate_error * (np.abs(up) + up_error) + np.abs(silu) * up_error + GATE * np.abs(silu * up)
    assert y.shape == silu.shape
    assert (np.abs(y - silu * up) <= error + LEAST).all()


@cache
def shared_session(lanes: int, bits: int, threads: int = 1, swiglu: int = 0):
    """A product for several tests: an odd number of vectors of columns, and a part of a block at the end."""
    columns = 320 if swiglu else 331
    weight = make_weight(bits, 32, 333, columns, seed=bits)
    return weight, product_session(weight, lanes, threads=threads, swiglu=swiglu)


@pytest.mark.parametrize("zero_points", [False, True], ids=["symmetric", "zero points"])
@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("bits", BITS)
def test_products_are_those_of_the_definition(lanes, bits, block, zero_points):
    widths = [1, block - 1, block, 3 * block, 2 * block + 5]
    for seed, columns in enumerate(COLUMNS):
        weight = make_weight(bits, block, widths[seed % 5], columns, zero_points=zero_points, seed=seed)
        session = product_session(weight, lanes)
        for rows in (1, 7):
            x = normal(seed, rows, weight.width)
            assert_right(multiply(session, x), weight, x)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("bits", BITS)
def test_every_number_of_rows(lanes, bits, threads):
    weight, session = shared_session(lanes, bits, threads)
    for rows in ROWS:
        x = normal(rows, rows, weight.width)
        assert_right(multiply(session, x), weight, x)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("bits", BITS)
def test_swiglu_of_the_halves_of_the_columns(lanes, bits, threads):
    weight, session = shared_session(lanes, bits, threads, swiglu=1)
    for rows in ROWS:
        x = normal(rows, rows, weight.width)
        assert_gated(multiply(session, x), weight, x)


@pytest.mark.parametrize("columns", [32, 64, 96])
def test_swiglu_of_few_columns(lanes, columns):
    weight = make_weight(columns=columns)
    x = normal(columns, 3, 64)
    assert_gated(multiply(product_session(weight, lanes, swiglu=1), x), weight, x)


@pytest.mark.parametrize("bits", BITS)
def test_a_decode_step_of_many_columns_is_shared_out_to_threads(lanes, bits):
    weight = make_weight(bits, 64, 256, 2001)
    x = normal(5, 1, 256)
    y = multiply(product_session(weight, lanes, threads=3), x)
    assert_right(y, weight, x)
    assert np.array_equal(y, multiply(product_session(weight, lanes), x))


@st.composite
def products(draw) -> tuple[Weight, np.ndarray, int]:
    """A weight, activations with any leading axes, and whether SwiGLU follows."""
    bits, block, swiglu = draw(st.sampled_from(BITS)), draw(st.sampled_from(BLOCKS)), draw(st.integers(0, 1))
    columns = 32 * draw(st.integers(1, 4)) if swiglu else draw(st.integers(1, 130))
    width, seed = draw(st.integers(1, 3 * block)), draw(st.integers(0, 99))
    weight = make_weight(bits, block, width, columns, zero_points=draw(st.booleans()), seed=seed)
    leading = draw(st.lists(st.integers(0, 5), max_size=3))
    x = normal(seed + 1, *leading, width) * np.float32(10.0) ** draw(st.integers(-3, 1))
    return weight, x, swiglu


@settings(max_examples=100, deadline=None)
@given(product=products(), most_lanes=st.sampled_from([8, 16]))
def test_any_product_of_any_leading_axes(product, most_lanes):
    weight, x, swiglu = product
    y = multiply(product_session(weight, limit_lanes(most_lanes), swiglu=swiglu), x)
    assert y.shape[:-1] == x.shape[:-1]
    rows = y.reshape(-1, weight.columns // (1 + swiglu))
    (assert_gated if swiglu else assert_right)(rows, weight, x.reshape(-1, weight.width))


@pytest.mark.parametrize("zero_points", [False, True], ids=["symmetric", "zero points"])
@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("bits", BITS)
def test_matmul_n_bits_gives_the_same_where_activations_are_integers(lanes, bits, block, zero_points):
    """With 127 in each block they are exact, so that both sum the same numbers, in orders of their own."""
    for rows, width, columns in ((1, 3 * block, 50), (6, 2 * block + 16, 33)):
        weight = make_weight(bits, block, width, columns, zero_points=zero_points, seed=block)
        x = np.random.default_rng(rows).integers(-127, 128, (rows, width)).astype(np.float32)
        x[:, ::block] = 127
        ours = multiply(product_session(weight, lanes), x)
        theirs = multiply(make_session(product_graph(weight, stock=True)), x)
        # Where it has no kernel for int8 activations, it sums all the products in float32, 2^-24 off each.
        error = 2 * width * 2.0**-24 * (np.abs(x).astype(np.float64) @ np.abs(weight.values).T)
        assert (np.abs(ours.astype(np.float64) - theirs) <= error).all()


@pytest.mark.parametrize("bits", BITS)
def test_matmul_n_bits_of_any_activations_is_as_near_as_its_roundings_let_it(lanes, bits):
    """It rounds an activation's product with 127 / largest before it rounds to an integer, so that one that lies in the
    middle of two may become the other; there are few of them, and each is off by one step of its block."""
    weight = make_weight(bits, 32, 512, 96)
    x = normal(3, 5, 512)
    ours = multiply(product_session(weight, lanes), x)
    theirs = multiply(make_session(product_graph(weight, stock=True)), x)
    step = np.abs(x).max() / 127 * np.abs(weight.values).max()
    assert np.abs(ours - theirs).max() <= 2 * step
    assert np.abs(ours - x.astype(np.float64) @ weight.values.T).max() > step  # activations are rounded


@pytest.mark.parametrize("bits", BITS)
def test_products_are_those_of_float_activations_up_to_half_a_step_of_each(lanes, bits):
    weight, session = shared_session(lanes, bits)
    x = normal(8, 9, weight.width)
    _, scales = quantized_activations(x, weight.block)
    steps = scales.repeat(weight.block, axis=1)[:, : weight.width].astype(np.float64)
    error = np.abs(multiply(session, x) - x.astype(np.float64) @ weight.values.T)
    # Half a step, and what float32's roundings add to it, which is below 127 * 2^-23 of a step.
    assert (error <= 0.5001 * steps @ np.abs(weight.values).T).all()


@pytest.mark.parametrize("swiglu", [0, 1])
@pytest.mark.parametrize("bits", BITS)
def test_the_bits_of_a_row_depend_on_no_other_row_and_no_thread(lanes, bits, swiglu):
    weight, session = shared_session(lanes, bits, 1, swiglu)
    _, shared = shared_session(lanes, bits, 3, swiglu)
    x = normal(4, 301, weight.width)
    together = multiply(session, x)
    assert np.array_equal(multiply(shared, x), together)
    for row in (0, 1, 127, 128, 255, 300):
        assert np.array_equal(multiply(session, x[[row]]), together[[row]])
    for first, count in ((0, 2), (5, 3), (126, 4), (290, 7), (3, 8), (7, 15)):
        assert np.array_equal(multiply(session, x[first : first + count]), together[first : first + count])


@pytest.mark.parametrize("bits", BITS)
def test_the_bits_do_not_depend_on_the_instruction_set(bits):
    """Sums of integers are exact, and blocks are added in order, in one instruction each."""
    if limit_lanes(16) != 16:
        pytest.skip("this CPU has one instruction set")
    (weight, wide), (_, narrow) = (shared_session(lanes, bits) for lanes in (16, 8))
    for rows in (1, 2, 21):
        x = normal(rows, rows, weight.width)
        assert np.array_equal(multiply(wide, x), multiply(narrow, x))


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("bits", BITS)
def test_the_largest_integers_do_not_saturate(lanes, bits, sign):
    """All activations are 127 or -127, and all weights the lowest or the highest, as far from zero as they can be."""
    most = 2**bits - 1
    for block in (16, 256):
        for integer, zero in ((0, 0), (most, 0), (0, most), (most, most), (most // 2, 0), (most // 2 + 1, 0)):
            weight = filled(make_weight(bits, block, 2 * block, 33), integer, zero)
            for rows in (1, 2, 9):
                x = np.full((rows, 2 * block), 127 * sign, np.float32)
                assert_right(multiply(product_session(weight, lanes), x), weight, x)


@pytest.mark.parametrize("bits", BITS)
def test_zeros_and_a_block_of_zeros(lanes, bits):
    weight, session = shared_session(lanes, bits)
    x = normal(1, 3, weight.width)
    x[0] = 0
    x[1, 32:64] = 0
    y = multiply(session, x)
    assert not y[0].any()
    assert_right(y, weight, x)


@pytest.mark.parametrize("bits", BITS)
def test_activations_in_the_middle_of_two_integers_become_the_even_one(lanes, bits):
    weight, session = shared_session(lanes, bits)
    x = np.random.default_rng(1).integers(-127, 127, (2, weight.width)).astype(np.float32) + np.float32(0.5)
    x[:, ::32] = 127
    assert_right(multiply(session, x), weight, x)


@pytest.mark.parametrize("size", [1e30, 1e-30, 3e38, 1e-36])
def test_numbers_of_all_sizes(lanes, size):
    weight = make_weight(8, 16, 80, 40)
    weight.scales[:] /= 1e4  # no sum is beyond float32
    x = normal(2, 4, 80)
    x[1:3] = np.clip(x[1:3], -1, 1) * np.float32(size)
    assert_right(multiply(product_session(weight, lanes), x), weight, x)


@pytest.mark.parametrize("size", [1e-37, 1e-38, 1e-40, 1e-45])
@pytest.mark.parametrize("bits", BITS)
def test_blocks_of_numbers_too_small_to_be_scaled_count_as_zeros(lanes, bits, size):
    weight, session = shared_session(lanes, bits)
    x = normal(2, 2, weight.width)
    x[1, :64] = np.float32(size)
    tiny = x.copy()
    x[1, :64] = 0
    assert np.array_equal(multiply(session, tiny), multiply(session, x))


@pytest.mark.parametrize("number", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("swiglu", [0, 1])
@pytest.mark.parametrize("bits", BITS)
def test_a_number_that_is_not_finite_makes_its_row_none_and_no_other(lanes, bits, swiglu, number):
    weight, session = shared_session(lanes, bits, 1, swiglu)
    x = normal(2, 11, weight.width)
    y = multiply(session, x)
    for place in (0, 37, weight.width - 1):
        hostile = x.copy()
        hostile[5, place] = number
        found = multiply(session, hostile)
        assert np.isnan(found[5]).all()
        assert np.array_equal(np.delete(found, 5, axis=0), np.delete(y, 5, axis=0))
        assert np.isnan(multiply(session, hostile[[5]])).all()


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_scales_that_are_not_finite_reach_their_column_alone(lanes, number):
    weight = make_weight(columns=41)
    weight.scales[17, 1] = number
    y = multiply(product_session(weight, lanes), normal(1, 3, 64))
    assert not np.isfinite(y[:, 17]).any()
    assert np.isfinite(np.delete(y, 17, axis=1)).all()


def test_weights_stay_valid_when_other_sessions_are_gone(lanes):
    """Weights that are loaded one after the other share a chunk of memory."""
    x = normal(1, 3, 64)
    weights = [make_weight(columns=40 + seed, seed=seed) for seed in range(6)]
    sessions = dict(enumerate(product_session(weight, lanes) for weight in weights))
    for gone in (5, 0, 3, 1):
        del sessions[gone]
        late = product_session(weights[gone], lanes)
        for index, session in sessions.items():
            assert_right(multiply(session, x), weights[index], x)
        assert_right(multiply(late, x), weights[gone], x)
    sessions.clear()
    assert_right(multiply(product_session(weights[2], lanes), x), weights[2], x)


def test_weights_larger_than_a_chunk():
    weight = make_weight(8, 256, 4096, 16600, zero_points=False)  # 65 MiB, where a chunk has 64
    session = product_session(weight, limit_lanes(16))
    x = normal(1, 1, 4096)
    chosen = [0, 8299, 16599]
    part = Weight(8, 256, 4096, weight.integers[chosen], weight.scales[chosen], None)
    assert_right(multiply(session, x)[:, chosen], part, x)
