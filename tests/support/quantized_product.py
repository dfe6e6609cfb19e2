"""Graphs of one product with a quantized weight, native or ONNX Runtime's, and what it computes in float64."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from native_nodes import DOMAIN, FLOAT, graph_of, limit_lanes, make_session
from onnx import helper, numpy_helper

ROUNDING = 2.0**-24
"""Half the distance from 1 to the next float32: the largest relative error of one rounding."""

LEAST = 1e-37
"""Near the smallest normal number of float32, below which errors are no longer relative."""


def blocks_of(width: int, block: int) -> int:
    return -(-width // block)


@dataclass(frozen=True, eq=False)
class Weight:
    """A weight of unsigned integers.

    Attributes:
        bits: 4 or 8.
        block: Numbers of a column that have one scale.
        width: K, the numbers of a column that count.
        integers: All numbers, [N, blocks * block] uint8; what lies past `width` in the last block is never used.
        scales: [N, blocks] float32.
        zeros: The integers that stand for zero, [N, blocks] uint8; None for 2^(bits - 1).
    """

    bits: int
    block: int
    width: int
    integers: np.ndarray
    scales: np.ndarray
    zeros: np.ndarray | None

    @property
    def columns(self) -> int:
        return len(self.integers)

    @cached_property
    def inputs(self) -> dict[str, np.ndarray]:
        """The constants of a node, as MatMulNBits has them."""
        blocks = self.scales.shape[1]
        weight = in_bytes(self.integers, self.bits).reshape(self.columns, blocks, -1)
        zeros = {} if self.zeros is None else {"zeros": in_bytes(self.zeros, self.bits)}
        return {"weight": weight, "scales": self.scales} | zeros

    @cached_property
    def values(self) -> np.ndarray:
        """The numbers that the integers stand for, [N, K] float64."""
        zeros = 2 ** (self.bits - 1) if self.zeros is None else self.zeros.repeat(self.block, axis=1).astype(np.int64)
        values = (self.integers.astype(np.int64) - zeros) * self.scales.repeat(self.block, axis=1).astype(np.float64)
        return values[:, : self.width]


def in_bytes(integers: np.ndarray, bits: int) -> np.ndarray:
    """Rows of integers in bytes; of two int4 numbers in a byte, the first is the low one."""
    if bits == 8:
        return integers
    even = np.pad(integers, ((0, 0), (0, integers.shape[1] % 2)))
    return even[:, ::2] | even[:, 1::2] << 4


def make_weight(
    bits: int = 4, block: int = 32, width: int = 64, columns: int = 48, *, zero_points: bool = True, seed: int = 0
) -> Weight:
    """A weight of random numbers, with scales from 1/128 to 1/64."""
    rng = np.random.default_rng(seed)
    blocks = blocks_of(width, block)
    integers = rng.integers(0, 2**bits, (columns, blocks * block)).astype(np.uint8)
    zeros = rng.integers(0, 2**bits, (columns, blocks)).astype(np.uint8) if zero_points else None
    scales = (rng.uniform(1, 2, (columns, blocks)) / 128).astype(np.float32)
    return Weight(bits, block, width, integers, scales, zeros)


def filled(weight: Weight, integer: int, zero: int) -> Weight:
    """The same weight with one integer everywhere, and one that stands for zero."""
    return replace(
        weight, integers=np.full_like(weight.integers, integer), zeros=np.full(weight.scales.shape, zero, np.uint8)
    )


def product_graph(weight: Weight, *, stock: bool = False, **attributes: Any) -> onnx.ModelProto:
    """A graph with one product; attributes take the place of those that fit the weight, None removes one."""
    fitting = {"K": weight.width, "N": weight.columns, "bits": weight.bits, "block_size": weight.block}
    own = {"accuracy_level": 4} if stock else {"swiglu": 0}
    all_attributes = fitting | own | attributes
    node = helper.make_node(
        "MatMulNBits" if stock else "QuantizedMatMul",
        ["x", *weight.inputs],
        ["y"],
        domain="com.microsoft" if stock else DOMAIN,
        **{name: value for name, value in all_attributes.items() if value is not None},
    )
    model = graph_of(node, {"x": (FLOAT, None)}, ("y",))
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weight.inputs.items())
    return model


def product_session(weight: Weight, lanes: int, *, threads: int = 1, swiglu: int = 0) -> ort.InferenceSession:
    """A session of a graph with one QuantizedMatMul."""
    assert limit_lanes(lanes) == lanes
    return make_session(product_graph(weight, swiglu=swiglu), threads)


def multiply(session: ort.InferenceSession, x: np.ndarray) -> np.ndarray:
    (y,) = session.run(None, {"x": x})
    return np.asarray(y)


def quantized_activations(x: np.ndarray, block: int) -> tuple[np.ndarray, np.ndarray]:
    """Activations as integers from -127 to 127, by the largest magnitude of each block.

    Args:
        x: [M, K] float32.
        block: Numbers of a row that have one scale.

    Returns:
        [M, blocks, block] int64, and the scales [M, blocks] float32.
    """
    width = x.shape[1]
    count = blocks_of(width, block)
    blocks = np.pad(x, ((0, 0), (0, count * block - width))).reshape(len(x), count, block)
    magnitudes = np.abs(blocks).max(axis=2)
    factors = np.float32(127) / np.where(magnitudes > 0, magnitudes, np.float32(np.inf))
    # A product of two float32 numbers is exact in float64, so that this rounds once, to even where there are two.
    integers = np.rint(blocks.astype(np.float64) * factors[..., None].astype(np.float64)).astype(np.int64)
    return integers, magnitudes / np.float32(127)


def expected(weight: Weight, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The product in float64, by its definition.

    Args:
        weight: The weight.
        x: [M, K] float32.

    Returns:
        y [M, N], and how far from it sums in float32 may be: in each block, the product of the scales is rounded once
        and the sum once; the sums of integers, below 2^24, are exact.
    """
    integers, scales = quantized_activations(x, weight.block)
    zeros = np.full(weight.scales.shape, 2 ** (weight.bits - 1)) if weight.zeros is None else weight.zeros
    columns = weight.integers.reshape(weight.columns, -1, weight.block).astype(np.int64)
    y, magnitudes = (np.zeros((len(x), weight.columns)) for _ in range(2))
    for block in range(columns.shape[1]):
        sums = integers[:, block] @ (columns[:, block] - zeros[:, block, None].astype(np.int64)).T
        terms = sums * np.outer(scales[:, block].astype(np.float64), weight.scales[:, block].astype(np.float64))
        y += terms
        magnitudes += np.abs(terms)
    return y, (columns.shape[1] + 1) * ROUNDING * magnitudes


def assert_right(y: np.ndarray, weight: Weight, x: np.ndarray) -> None:
    right, error = expected(weight, x)
    assert y.shape == right.shape
    assert (np.abs(y - right) <= error + LEAST).all()
