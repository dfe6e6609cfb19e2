"""The parts of a decoder that all targets share: linear layers, feed-forward networks, static experts."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

import onnx_ir as ir
from torch import nn

from ..errors import ExportError
from .dialect import FLOAT, INT64, topk_indices_name
from .writer import GraphWriter, Result

if TYPE_CHECKING:
    from minimind_edge.minimind import Attention, FeedForward, MiniMindForCausalLM, MOEFeedForward, MoEGate, RMSNorm

DIVISION_GUARD = 1e-20
"""The number that is added to the sum of the experts' weights before they are divided by it, as in the model."""

ACTIVATIONS: dict[str, Callable[[GraphWriter, ir.Value], ir.Value]] = {
    "silu": lambda writer, x: writer.op("Mul", x, writer.op("Sigmoid", x)),
    "swish": lambda writer, x: writer.op("Mul", x, writer.op("Sigmoid", x)),
    "relu": lambda writer, x: writer.op("Relu", x),
    "gelu": lambda writer, x: writer.op("Gelu", x),
    "gelu_pytorch_tanh": lambda writer, x: writer.op("Gelu", x, approximate="tanh"),
    "gelu_new": lambda writer, x: writer.op("Gelu", x, approximate="tanh"),
}
"""The functions that write the nodes of each `hidden_act`."""


def check_activation(name: str) -> None:
    """Check that an activation can be written.

    Raises:
        ExportError: No graph can have this activation.
    """
    if name not in ACTIVATIONS:
        raise ExportError(f"hidden_act {name!r} cannot be exported; a graph can have {', '.join(ACTIVATIONS)}")


def linear(writer: GraphWriter, x: ir.Value, layer: nn.Linear) -> ir.Value:
    """`x` [..., in] times the layer's weight, [..., out]; MiniMind's layers have no bias."""
    assert layer.bias is None
    return writer.product(x, layer.weight)


def projections(writer: GraphWriter, attention: Attention, x: ir.Value) -> tuple[ir.Value, ir.Value, ir.Value]:
    """Queries [B, S, H_q * D], keys and values [B, S, H_kv * D], each by its own product."""
    with writer.scope("q_proj"):
        q = linear(writer, x, attention.q_proj)
    with writer.scope("k_proj"):
        k = linear(writer, x, attention.k_proj)
    with writer.scope("v_proj"):
        return q, k, linear(writer, x, attention.v_proj)


def fused_rms_norm(writer: GraphWriter, x: ir.Value, norm: RMSNorm) -> ir.Value:
    """`x` normalised by opset 23's `RMSNormalization`, in float32; the result has the graph's dtype."""
    wide, weight = writer.cast(x, FLOAT), writer.weight(norm.weight, dtype=FLOAT)
    return writer.cast(writer.op("RMSNormalization", wide, weight, axis=-1, epsilon=norm.eps), writer.dtype)


def angles(writer: GraphWriter, positions: ir.Value, model: MiniMindForCausalLM) -> ir.Value:
    """The angles of rotary position embedding for positions [..., 1] float32, [..., D/2] float32."""
    frequencies = model.model.rotary_emb.frequencies
    rates = writer.stored("rotary_emb.frequencies", lambda: frequencies, tuple(frequencies.shape), FLOAT)
    return writer.op("Mul", positions, rates)


def cos_sin(writer: GraphWriter, angles: ir.Value, model: MiniMindForCausalLM) -> tuple[ir.Value, ir.Value]:
    """Cosine and sine of angles, times the attention factor of a stretched RoPE."""
    factor = model.model.rotary_emb.factor
    cos, sin = writer.op("Cos", angles), writer.op("Sin", angles)
    if factor == 1.0:
        return cos, sin
    return writer.op("Mul", cos, factor), writer.op("Mul", sin, factor)


def feed_forward(writer: GraphWriter, x: ir.Value, layer: FeedForward, activation: str) -> ir.Value:
    """`down(act(gate(x)) * up(x))`, [..., H]."""
    gate, up = _gate_and_up(writer, x, layer)
    with writer.scope("act_fn"):
        gate = ACTIVATIONS[activation](writer, gate)
    gated = writer.op("Mul", gate, up)
    with writer.scope("down_proj"):
        return linear(writer, gated, layer.down_proj)


def _gate_and_up(writer: GraphWriter, x: ir.Value, layer: FeedForward) -> tuple[ir.Value, ...]:
    """Gate and up: the halves of one product where that is faster, else two products."""
    weights = layer.gate_proj.weight, layer.up_proj.weight
    if writer.gains_by_packing(*weights):
        with writer.scope("gate_up_proj"):
            return writer.ops("Split", writer.product(x, *weights), results=[Result()] * 2, axis=-1, num_outputs=2)
    with writer.scope("gate_proj"):
        gate = linear(writer, x, layer.gate_proj)
    with writer.scope("up_proj"):
        return gate, linear(writer, x, layer.up_proj)


def router_logits(writer: GraphWriter, gate: MoEGate, x: ir.Value) -> ir.Value:
    """The router's logit of each expert, [B, S, E] float32.

    Float32 in every precision: the weight is small, and a rounding error here can choose another expert.
    """
    return writer.op("MatMul", writer.cast(x, FLOAT), writer.weight(gate.weight, transposed=True, dtype=FLOAT))


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
    """The routed experts, typed as the feed-forward networks that they are."""
    return cast("Sequence[FeedForward]", moe.experts)


def _shares(writer: GraphWriter, gate: MoEGate, layer: int, x: ir.Value) -> ir.Value:
    """Each expert's weight for each token, 0 where it was not chosen, [B, S, E] float32."""
    scores, best, chosen = routed(writer, gate, layer, x)
    nothing = writer.op("ConstantOfShape", writer.op("Shape", scores, dtype=INT64), dtype=FLOAT)
    return writer.op("ScatterElements", nothing, chosen, chosen_weights(writer, gate, best), axis=-1)


def routed(writer: GraphWriter, gate: MoEGate, layer: int, x: ir.Value) -> tuple[ir.Value, ir.Value, ir.Value]:
    """The router's choice of experts for each token.

    Returns:
        Every expert's score, [B, S, E] float32; the k best of them, [B, S, k] float32; and the experts that have these,
        [B, S, k] int64, under the name of `topk_indices_name`.
    """
    scores = writer.op("Softmax", router_logits(writer, gate, x), axis=-1)
    results = [Result(), Result(topk_indices_name(layer), INT64)]
    best, chosen = writer.ops("TopK", scores, [gate.top_k], results=results, axis=-1)
    return scores, best, chosen


def chosen_weights(writer: GraphWriter, gate: MoEGate, best: ir.Value) -> ir.Value:
    """The weights of the chosen experts, from their scores; both [B, S, k] float32."""
    if not gate.normalizes:
        return best
    divisor = writer.op("Add", writer.op("ReduceSum", best, [-1], keepdims=1), DIVISION_GUARD)
    return writer.op("Div", best, divisor)


def total(writer: GraphWriter, values: list[ir.Value]) -> ir.Value:
    """The sum of at least one value."""
    return functools.reduce(lambda left, right: writer.op("Add", left, right), values)
