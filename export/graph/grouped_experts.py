"""Mixture of experts by plain products: tokens are sorted by their expert, and each expert multiplies only its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import onnx_ir as ir
import torch

from .dialect import INT64
from .layers import ACTIVATIONS, chosen_weights, experts_of, routed
from .writer import GraphWriter, Result

if TYPE_CHECKING:
    from minimind_edge.minimind import MOEFeedForward


def grouped_experts(writer: GraphWriter, moe: MOEFeedForward, layer: int, x: ir.Value, activation: str) -> ir.Value:
    """The weighted sum of the chosen experts' outputs, [B, S, H]; see `Dialect.experts`.

    Every choice of a token is a row, and the rows of one expert lie together. An expert that no token has chosen gets
    a matrix without rows, whose products read no weights, so that no branch is needed.
    """
    experts = experts_of(moe)
    choices, hidden = moe.gate.top_k, experts[0].down_proj.out_features
    with writer.scope("gate"):
        _, best, chosen = routed(writer, moe.gate, layer, x)
    with writer.scope("experts"):
        flat = writer.op("Reshape", chosen, [-1])
        is_chosen = writer.op("OneHot", flat, len(experts), [0, 1], dtype=INT64, axis=0)
        order, sizes = _order(writer, is_chosen), writer.op("ReduceSum", is_chosen, [1], keepdims=0)
        token = order if choices == 1 else writer.op("Div", order, choices)
        rows = writer.op("GatherND", writer.op("Reshape", x, [-1, hidden]), token)
        columns = [(expert.gate_proj.weight, expert.up_proj.weight) for expert in experts]
        products = _grouped(writer, layer, rows, sizes, columns)
        gate, up = writer.ops("Split", products, results=[Result()] * 2, axis=-1, num_outputs=2)
        gated = writer.op("Mul", ACTIVATIONS[activation](writer, gate), up)
        outputs = _grouped(writer, layer, gated, sizes, [(expert.down_proj.weight,) for expert in experts])
        by_choice = writer.op("ScatterND", rows, order, outputs)
    if choices > 1 or not moe.gate.normalizes:  # the only choice has all the weight
        with writer.scope("gate"):
            weights = writer.op("Reshape", chosen_weights(writer, moe.gate, best), [-1, 1, choices])
            by_choice = writer.op("MatMul", weights, writer.op("Reshape", by_choice, [-1, choices, hidden]))
    return writer.op("Reshape", by_choice, writer.op("Shape", x, dtype=INT64), shape=(*writer.tokens, hidden))


def _order(writer: GraphWriter, is_chosen: ir.Value) -> ir.Value:
    """The choices sorted by expert, [N, 1] int64, from ones where an expert is chosen, [E, N] int64."""
    places = writer.op("NonZero", is_chosen, dtype=INT64)
    _, order = writer.ops("Split", places, results=[Result()] * 2, axis=0, num_outputs=2)
    return writer.op("Reshape", order, [-1, 1])


def _grouped(
    writer: GraphWriter, layer: int, rows: ir.Value, sizes: ir.Value, weights: Sequence[tuple[torch.Tensor, ...]]
) -> ir.Value:
    """Each expert's rows times its weights, [N, out of all].

    Args:
        writer: The writer of the graph.
        layer: Index of the block.
        rows: The rows of all experts, one expert's after the other's, [N, in].
        sizes: The number of each expert's rows, [E] int64.
        weights: Each expert's, [out, in].
    """
    groups = writer.ops("Split", rows, sizes, results=[Result()] * len(weights), axis=0)
    tokens, products = writer.tokens, []
    for index, (group, parts) in enumerate(zip(groups, weights, strict=True)):
        writer.tokens = (f"layers.{layer}.experts.{index}.rows",)
        with writer.scope(index):
            products.append(writer.product(group, *parts))
    writer.tokens = tokens
    return writer.op("Concat", *products, axis=0)
