"""The parts of a decoder that every target writes alike."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

import onnx_ir as ir
import torch
from torch import nn

from ..errors import ExportError
from .dialect import FLOAT, INT64, topk_indices_name
from .writer import GraphWriter, Result

if TYPE_CHECKING:
    from minimind_edge.minimind import FeedForward, MOEFeedForward, MoEGate

DIVISION_GUARD = 1e-20
"""Keeps the experts' weights finite where all are 0, as the model does."""

ACTIVATIONS: dict[str, Callable[[GraphWriter, ir.Value], ir.Value]] = {
    "silu": lambda writer, x: writer.op("Mul", x, writer.op("Sigmoid", x)),
    "swish": lambda writer, x: writer.op("Mul", x, writer.op("Sigmoid", x)),
    "relu": lambda writer, x: writer.op("Relu", x),
    "gelu": lambda writer, x: writer.op("Gelu", x),
    "gelu_pytorch_tanh": lambda writer, x: writer.op("Gelu", x, approximate="tanh"),
    "gelu_new": lambda writer, x: writer.op("Gelu", x, approximate="tanh"),
}
"""How to write each `hidden_act`."""


def check_activation(name: str) -> None:
    """See that an activation can be written.

    Raises:
        ExportError: It cannot.
    """
    if name not in ACTIVATIONS:
        raise ExportError(f"hidden_act {name!r} cannot be exported; a graph can have {', '.join(ACTIVATIONS)}")


def linear(writer: GraphWriter, x: ir.Value, layer: nn.Linear, *, dtype: ir.DataType | None = None) -> ir.Value:
    """`x` times the layer's weight, [..., out]; MiniMind's layers have no bias.

    Args:
        writer: Of the graph.
        x: [..., in].
        layer: The layer.
        dtype: To compute it in; None for the graph's.
    """
    assert layer.bias is None
    return matmul(writer, x, layer.weight, dtype=dtype)


def matmul(writer: GraphWriter, x: ir.Value, weight: torch.Tensor, *, dtype: ir.DataType | None = None) -> ir.Value:
    """`x` [..., in] times a weight [out, in], transposed when it is stored."""
    return writer.op("MatMul", x, writer.weight(weight, transposed=True, dtype=dtype))


def feed_forward(writer: GraphWriter, x: ir.Value, layer: FeedForward, activation: str) -> ir.Value:
    """`down(act(gate(x)) * up(x))`, [..., H]."""
    with writer.scope("gate_proj"):
        gate = linear(writer, x, layer.gate_proj)
    with writer.scope("act_fn"):
        gate = ACTIVATIONS[activation](writer, gate)
    with writer.scope("up_proj"):
        up = linear(writer, x, layer.up_proj)
    gated = writer.op("Mul", gate, up)
    with writer.scope("down_proj"):
        return linear(writer, gated, layer.down_proj)


def router_logits(writer: GraphWriter, gate: MoEGate, x: ir.Value) -> ir.Value:
    """What the router thinks of each expert, [B, S, E] float32.

    Float32 in every precision: the weight is small, and a rounding error here takes another expert.
    """
    return matmul(writer, writer.cast(x, FLOAT), gate.weight, dtype=FLOAT)


def static_experts(writer: GraphWriter, moe: MOEFeedForward, layer: int, x: ir.Value, activation: str) -> ir.Value:
    """Every expert's output for every token, weighted with 0 where it was not chosen, [B, S, H]."""
    with writer.scope("gate"):
        shares = writer.cast(_shares(writer, moe.gate, layer, x), writer.dtype)
        columns = writer.ops(
            "Split", shares, results=[Result()] * len(moe.experts), axis=-1, num_outputs=len(moe.experts)
        )
    outputs = []
    for index, expert in enumerate(experts_of(moe)):
        with writer.scope("experts", index):
            outputs.append(writer.op("Mul", feed_forward(writer, x, expert, activation), columns[index]))
    return total(writer, outputs)


def experts_of(moe: MOEFeedForward) -> Sequence[FeedForward]:
    """The routed experts, under the type that they have."""
    return cast("Sequence[FeedForward]", moe.experts)


def _shares(writer: GraphWriter, gate: MoEGate, layer: int, x: ir.Value) -> ir.Value:
    """Each expert's weight for each token, 0 where it was not chosen, [B, S, E] float32."""
    scores = writer.op("Softmax", router_logits(writer, gate, x), axis=-1)
    weights, chosen = writer.ops(
        "TopK", scores, [gate.top_k], results=[Result(), Result(topk_indices_name(layer), INT64)], axis=-1
    )
    if gate.normalizes:
        divisor = writer.op("Add", writer.op("ReduceSum", weights, [-1], keepdims=1), DIVISION_GUARD)
        weights = writer.op("Div", weights, divisor)
    nothing = writer.op("ConstantOfShape", writer.op("Shape", scores, dtype=INT64), dtype=FLOAT)
    return writer.op("ScatterElements", nothing, chosen, weights, axis=-1)


def total(writer: GraphWriter, values: list[ir.Value]) -> ir.Value:
    """The sum of at least one value."""
    return functools.reduce(lambda left, right: writer.op("Add", left, right), values)
