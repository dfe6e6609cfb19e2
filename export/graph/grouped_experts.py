"""Mixture of experts by plain products: tokens are sorted by their expert, and each expert multiplies only its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx_ir as ir
import torch

from .dialect import INT64
from .layers import ACTIVATIONS, chosen_weights, experts_of, routed
from .writer import GraphWriter, Result

if TYPE_CHECKING:
    from minimind_edge.minimind import MOEFeedForward


@dataclass(frozen=True)
class Axes:
    """The names of a block's axes: ONNX Runtime takes axes of one name for equal, in all blocks.

    Attributes:
        prefix: What they begin with.
    """

    prefix: str

    @property
    def tokens(self) -> str:
        """The tokens of all rows of the batch."""
        return f"{self.prefix}.tokens"

    @property
    def choices(self) -> str:
        """The choices of all tokens, those of one token after one another."""
        return f"{self.prefix}.choices"

    @property
    def rows(self) -> str:
        """The rows of all experts: the choices, and rows of zeros."""
        return f"{self.prefix}.rows"

    def rows_of(self, expert: int) -> str:
        """The rows of one expert."""
        return f"{self.prefix}.{expert}.rows"


def grouped_experts(writer: GraphWriter, moe: MOEFeedForward, layer: int, x: ir.Value, activation: str) -> ir.Value:
    """The weighted sum of the chosen experts' outputs, [B, S, H]; see `Dialect.experts`.

    Every choice of a token is a row, and the rows of one expert lie together. An expert that no token has chosen gets
    a matrix without rows, whose products read no weights, so that no branch is needed. Where there are several rows, an
    expert with an odd number of them gets a row of zeros as well: kernels compute rows in pairs, and one that is left
    over by another sum, so that a token's bits would depend on what the other tokens chose.
    """
    experts, axes = experts_of(moe), Axes(f"layers.{layer}.experts")
    choices, hidden = moe.gate.top_k, experts[0].down_proj.out_features
    with writer.scope("gate"):
        _, best, chosen = routed(writer, moe.gate, layer, x)
    with writer.scope("experts"):
        chosen = writer.op("Reshape", chosen, [-1], shape=(axes.choices,))
        order, sizes = _order(writer, axes, chosen, len(experts))
        tokens = order if choices == 1 else writer.op("Div", order, choices)
        rows = _gathered(writer, axes, x, tokens, hidden)
        columns = [(expert.gate_proj.weight, expert.up_proj.weight) for expert in experts]
        products = _grouped(writer, axes, rows, sizes, columns)
        gate, up = writer.ops("Split", products, results=[Result()] * 2, axis=-1, num_outputs=2)
        gated = writer.op("Mul", ACTIVATIONS[activation](writer, gate), up)
        outputs = _grouped(writer, axes, gated, sizes, [(expert.down_proj.weight,) for expert in experts])
        by_choice = writer.op("ScatterND", rows, order, outputs)  # zeros go to the place after the last choice
        count = writer.op("Shape", chosen, dtype=INT64)
        by_choice = writer.op("Slice", by_choice, [0], count, [0], shape=(axes.choices, hidden))
    if choices > 1 or not moe.gate.normalizes:  # the only choice has all the weight
        with writer.scope("gate"):
            weights = chosen_weights(writer, moe.gate, best)
            weights = writer.op("Reshape", weights, [-1, 1, choices], shape=(axes.tokens, 1, choices))
            shape = (axes.tokens, choices, hidden)
            by_choice = writer.op("MatMul", weights, writer.op("Reshape", by_choice, [-1, *shape[1:]], shape=shape))
    return writer.op("Reshape", by_choice, writer.op("Shape", x, dtype=INT64), shape=(*writer.tokens, hidden))


def _order(writer: GraphWriter, axes: Axes, chosen: ir.Value, experts: int) -> tuple[ir.Value, ir.Value]:
    """The choices sorted by expert, and the number of each expert's.

    Args:
        writer: The writer of the graph.
        axes: The block's.
        chosen: The expert of each choice, [N] int64.
        experts: The number of experts, E.

    Returns:
        Their indices, [M, 1] int64, with N for a row of zeros; and numbers [E] int64, whose sum is M.
    """
    is_chosen = writer.op("OneHot", chosen, experts, [0, 1], dtype=INT64, axis=0, shape=(experts, axes.choices))
    pair = writer.op("Min", writer.op("Shape", chosen, dtype=INT64), [2])  # a row alone stays alone
    odd = writer.op("Mod", writer.op("ReduceSum", is_chosen, [1], keepdims=1), pair)
    shape = (experts, f"{axes.choices}_and_zeros")
    is_row = writer.op("Concat", is_chosen, odd, axis=1, shape=shape)
    places = writer.op("NonZero", is_row, dtype=INT64, shape=(2, axes.rows))
    _, order = writer.ops("Split", places, results=[Result(shape=(1, axes.rows))] * 2, axis=0, num_outputs=2)
    order = writer.op("Reshape", order, [-1, 1], shape=(axes.rows, 1))
    return order, writer.op("ReduceSum", is_row, [1], keepdims=0)


def _gathered(writer: GraphWriter, axes: Axes, x: ir.Value, tokens: ir.Value, hidden: int) -> ir.Value:
    """The inputs [B, S, H] of tokens [M, 1] int64, [M, H]; zeros for the token after the last."""
    zeros = writer.stored("experts.zeros", lambda: torch.zeros(1, hidden), (1, hidden))
    flat = writer.op("Reshape", x, [-1, hidden], shape=(axes.tokens, hidden))
    padded = writer.op("Concat", flat, zeros, axis=0, shape=(f"{axes.tokens}_and_zeros", hidden))
    return writer.op("GatherND", padded, tokens, shape=(axes.rows, hidden))


def _grouped(
    writer: GraphWriter, axes: Axes, rows: ir.Value, sizes: ir.Value, weights: Sequence[tuple[torch.Tensor, ...]]
) -> ir.Value:
    """Each expert's rows times its weights, [M, out of all].

    Args:
        writer: The writer of the graph.
        axes: The block's.
        rows: The rows of all experts, one expert's after the other's, [M, in].
        sizes: The number of each expert's rows, [E] int64.
        weights: Each expert's, [out, in].
    """
    width, outputs = weights[0][0].shape[1], sum(len(each) for each in weights[0])
    results = [Result(shape=(axes.rows_of(index), width)) for index in range(len(weights))]
    tokens, products = writer.tokens, []
    for index, group in enumerate(writer.ops("Split", rows, sizes, results=results, axis=0)):
        writer.tokens = (axes.rows_of(index),)
        with writer.scope(index):
            products.append(writer.product(group, *weights[index]))
    writer.tokens = tokens
    return writer.op("Concat", *products, axis=0, shape=(axes.rows, outputs))
