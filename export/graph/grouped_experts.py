"""Mixture of experts by plain products: tokens are sorted by their expert, and each expert multiplies only its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from .dialect import INT64
from .layers import experts_of, feed_forward, routed
from .writer import GraphWriter, Result

if TYPE_CHECKING:
    from minimind_edge.minimind import MOEFeedForward


def grouped_experts(writer: GraphWriter, moe: MOEFeedForward, layer: int, x: ir.Value, activation: str) -> ir.Value:
    """The weighted sum of the chosen experts' outputs, [B, S, H]; see `Dialect.experts`.

    Every choice of a token is a row, and the rows of one expert lie together. An expert that no token has chosen gets
    a matrix without rows, whose products read no weights, so that no branch is needed.
    """
    experts = experts_of(moe)
    count, choices, hidden = len(experts), moe.gate.top_k, experts[0].down_proj.out_features
    with writer.scope("gate"):
        _, weights, chosen = routed(writer, moe.gate, layer, x)
    with writer.scope("experts"):
        is_chosen = writer.op("OneHot", writer.op("Reshape", chosen, [-1]), count, [0, 1], dtype=INT64, axis=0)
        order = _order(writer, is_chosen)
        token = order if choices == 1 else writer.op("Div", order, choices)
        rows = writer.op("GatherND", writer.op("Reshape", x, [-1, hidden]), token)
        sizes = writer.op("ReduceSum", is_chosen, [1], keepdims=0)
        groups = writer.ops("Split", rows, sizes, results=[Result()] * count, axis=0)
    tokens, outputs = writer.tokens, []
    for index, (expert, group) in enumerate(zip(experts, groups, strict=True)):
        writer.tokens = (f"layers.{layer}.experts.{index}.tokens",)
        with writer.scope("experts", index):
            outputs.append(feed_forward(writer, group, expert, activation))
    writer.tokens = tokens
    with writer.scope("experts"):
        sorted_rows = writer.op("Concat", *outputs, axis=0)
        by_choice = writer.op("Reshape", writer.op("ScatterND", rows, order, sorted_rows), [-1, choices, hidden])
        summed = writer.op("MatMul", writer.op("Reshape", weights, [-1, 1, choices]), by_choice)
        return writer.op("Reshape", summed, writer.op("Shape", x, dtype=INT64), shape=(*tokens, hidden))


def _order(writer: GraphWriter, is_chosen: ir.Value) -> ir.Value:
    """The choices sorted by expert, [B*S*k, 1], from 1 where an expert is chosen, [E, B*S*k]."""
    _, order = writer.ops(
        "Split", writer.op("NonZero", is_chosen, dtype=INT64), results=[Result()] * 2, axis=0, num_outputs=2
    )
    return writer.op("Reshape", order, [-1, 1])
