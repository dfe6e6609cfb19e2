"""Mixture of quantized experts by ONNX Runtime's `QMoE`, which reads only the experts that a token has chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
import onnx_ir as ir

from ..errors import ExportError
from ..quantization import QuantizedMatrix
from .dialect import INT64, topk_indices_name
from .layers import experts_of, router_logits
from .quantized_weights import EIGHT_BIT_ACTIVATIONS, BlockWriter, all_zero_points
from .writer import MICROSOFT, GraphWriter, Result

if TYPE_CHECKING:
    from minimind_edge.minimind import FeedForward, MOEFeedForward

SWIGLU: dict[str, Any] = {
    "activation_type": "swiglu",
    "swiglu_fusion": 1,
    "activation_alpha": 1.0,
    "activation_beta": 0.0,
}
"""`silu(gate) * up`, rows of gate and up alternating: the only layout that the operator has on the CPU."""


def suits_operator(writer: GraphWriter, moe: MOEFeedForward, activation: str) -> TypeGuard[BlockWriter]:
    """Whether `QMoE` takes a block's experts: SwiGLU, and quantized weights whose blocks are all filled."""
    if activation != "silu" or not isinstance(writer, BlockWriter):
        return False
    layers = (layer for expert in experts_of(moe) for layer in (expert.gate_proj, expert.up_proj, expert.down_proj))
    matrices = [matrix for layer in layers if (matrix := writer.matrix(layer.weight)) is not None]
    return bool(matrices) and not any(matrix.is_padded for matrix in matrices)


def chosen_experts(writer: BlockWriter, moe: MOEFeedForward, layer: int, x: ir.Value) -> ir.Value:
    """The weighted sum of the chosen experts' outputs, [B, S, H]; see `Dialect.experts`.

    The operator does not tell which experts it chose, so a `TopK` next to it does.

    Raises:
        ExportError: Some experts have another format than the rest.
    """
    gate = moe.gate
    with writer.scope("gate"):
        logits = router_logits(writer, gate, x)
        writer.ops("TopK", logits, [gate.top_k], results=[Result(), Result(topk_indices_name(layer), INT64)], axis=-1)
        flat = writer.op("Reshape", logits, [-1, gate.num_experts], shape=("token_count", gate.num_experts))
    experts = experts_of(moe)
    weights, attributes = _block_weights(writer, f"model.layers.{layer}.mlp.experts", experts)
    if not gate.normalizes:  # the operator would take the softmax over only the chosen experts
        with writer.scope("gate"):
            weights += [None, writer.op("Softmax", flat, axis=-1, shape=("token_count", gate.num_experts))]
    with writer.scope("experts"):
        return writer.op(
            "QMoE",
            *(x, flat, *weights),
            shape=(*writer.tokens, experts[0].down_proj.out_features),
            domain=MICROSOFT,
            k=gate.top_k,
            normalize_routing_weights=int(gate.normalizes),
            **SWIGLU,
            **attributes,
        )


Weights = tuple[list[ir.Value | None], dict[str, Any]]
"""The operands after the router's logits, and the attributes of their format."""


def _block_weights(writer: BlockWriter, name: str, experts: Sequence[FeedForward]) -> Weights:
    """The experts' integers as `QMoE` takes them.

    Raises:
        ExportError: Some have another format than the rest.
    """
    first = [writer.matrix(layer.weight) for expert in experts for layer in (expert.gate_proj, expert.up_proj)]
    second = [writer.matrix(expert.down_proj.weight) for expert in experts]
    gate_up, down = ([matrix for matrix in group if matrix is not None] for group in (first, second))
    is_whole = len(gate_up) == len(first) and len(down) == len(second)
    formats = {(matrix.bits, matrix.block) for matrix in (*gate_up, *down)}
    if not is_whole or len(formats) > 1:
        raise ExportError(f"{name} must have one block size and one number of bits, in all layers of all experts")
    count, (hidden, width) = len(experts), experts[0].down_proj.weight.shape
    w1, s1, z1 = writer.block_tensors(
        f"{name}.gate+up_proj.weight",
        (count, 2 * width),
        gate_up,
        lambda: [alternating_rows(*pair) for pair in zip(gate_up[::2], gate_up[1::2], strict=True)],
    )
    w2, s2, z2 = writer.block_tensors(f"{name}.down_proj.weight", (count, hidden), down)
    # no biases, and no third product: up is in the first
    return [_flat(writer, w1), s1, None, _flat(writer, w2), s2, *[None] * 4, z1, z2], {
        "expert_weight_bits": gate_up[0].bits,
        "fc2_expert_weight_bits": down[0].bits,
        "block_size": gate_up[0].block,
        "accuracy_level": EIGHT_BIT_ACTIVATIONS,
    }


def _flat(writer: GraphWriter, integers: ir.Value) -> ir.Value:
    """Integers [E, out, blocks, bytes] with the blocks of a row in one, [E, out, bytes]."""
    assert integers.shape is not None
    count, rows, blocks, size = integers.shape.numpy()
    return writer.op("Reshape", integers, [0, 0, blocks * size], shape=(count, rows, blocks * size))


def alternating_rows(first: QuantizedMatrix, second: QuantizedMatrix) -> QuantizedMatrix:
    """Two matrices of one format as one, with alternating rows."""

    def joined(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return np.stack((one, other), axis=1).reshape(-1, one.shape[1])

    zero_points = None
    if first.zero_points is not None or second.zero_points is not None:
        zero_points = joined(all_zero_points(first), all_zero_points(second))
    integers = joined(first.integers, second.integers)
    return replace(first, integers=integers, scales=joined(first.scales, second.scales), zero_points=zero_points)
