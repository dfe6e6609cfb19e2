"""The `portable` dialect: standard operators only, in forms that every runtime supports and ONNX Runtime fuses."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import onnx_ir as ir

from minimind_edge.runtime.session.contract import BATCH, SEQUENCE, TOTAL

from .dialect import BOOL, FLOAT, HIDDEN, INT64, Dialect, KeyValue, StepInputs
from .layers import angles, cos_sin, projections, static_experts
from .writer import GraphWriter, Result

if TYPE_CHECKING:
    from minimind_edge.minimind import Attention, MiniMindForCausalLM, MOEFeedForward, RMSNorm


STACKED = "stacked_sequence_length"
"""The axis of the queries of one key head's group: those of the first query head, then those of the next."""


class PortableDialect(Dialect):
    """Opset 21, which runtimes have had since 2024; the past goes in by value and comes out longer."""

    opset = 21
    step: StepInputs

    def __init__(self, writer: GraphWriter, model: MiniMindForCausalLM, step: StepInputs, max_length: int) -> None:
        super().__init__(writer, model, step, max_length)
        self.group = self.config.num_attention_heads // self.config.num_key_value_heads
        with writer.scope("attention_bias"):
            self.bias = self._attention_bias()
        with writer.scope("rotary_emb"):
            positions = writer.op("Unsqueeze", writer.cast(step.position_ids, FLOAT), [1, 3])
            half = angles(writer, positions, model)
            self.cos, self.sin = cos_sin(writer, writer.op("Concat", half, half, axis=-1), model)

    def rms_norm(self, x: ir.Value, norm: RMSNorm) -> ir.Value:
        """See `Dialect.rms_norm`; a square root and a division, which ONNX Runtime fuses, unlike a reciprocal."""
        writer = self.writer
        wide = writer.cast(x, FLOAT)
        mean = writer.op("ReduceMean", writer.op("Pow", wide, 2.0), [-1], keepdims=1)
        scaled = writer.op("Div", wide, writer.op("Sqrt", writer.op("Add", mean, norm.eps)))
        return writer.cast(writer.op("Mul", scaled, writer.weight(norm.weight, dtype=FLOAT)), writer.dtype)

    def attend(self, attention: Attention, layer: int, x: ir.Value) -> tuple[ir.Value, KeyValue]:
        """See `Dialect.attend`.

        The queries of a group are stacked as [B, H_kv, group * S, D], so that a key head serves them all as it is and
        is never repeated.
        """
        heads, key_heads, dim = self.config.num_attention_heads, self.config.num_key_value_heads, self.config.head_dim
        q, k, v = projections(self.writer, attention, x)
        q = self._rotated(self.heads_first(q, heads, attention.q_norm))
        k = self._rotated(self.heads_first(k, key_heads, attention.k_norm))
        v = self.heads_first(v, key_heads)
        key, value = (
            self.writer.op("Concat", past, new, name=name, shape=self.present_shape(), axis=2)
            for past, new, name in zip(self.step.past[layer], (k, v), self.present(layer), strict=True)
        )
        stacked = self.writer.op("Reshape", q, [0, key_heads, -1, dim], shape=(BATCH, key_heads, STACKED, dim))
        mixed = self._mix(stacked, key, value)
        unstacked = self.writer.op("Reshape", mixed, [0, heads, -1, dim], shape=(BATCH, heads, SEQUENCE, dim))
        return self.heads_last(unstacked, heads), (key, value)

    def experts(self, moe: MOEFeedForward, layer: int, x: ir.Value) -> ir.Value:
        """See `Dialect.experts`."""
        return static_experts(self.writer, moe, layer, x, self.config.hidden_act)

    def _attention_bias(self) -> ir.Value:
        """The bias of the scores, [B, 1, group * S, P+S] float32: 0 for real slots up to the query's, else `HIDDEN`."""
        writer, mask = self.writer, self.step.attention_mask
        total = writer.op("Squeeze", writer.op("Shape", mask, dtype=INT64, start=1, end=2))
        length = writer.op("Squeeze", writer.op("Shape", self.step.input_ids, dtype=INT64, start=1, end=2))
        slots = writer.op("Range", 0, total, 1, shape=(TOTAL,))
        own = writer.op("Range", writer.op("Sub", total, length), total, 1, shape=(SEQUENCE,))
        causal = writer.op("LessOrEqual", slots, writer.op("Unsqueeze", own, [1]), dtype=BOOL)
        real = writer.op("Unsqueeze", writer.cast(mask, BOOL), [1, 2])
        bias = writer.op("Where", writer.op("And", causal, real), 0.0, HIDDEN, dtype=FLOAT)
        return writer.op("Tile", bias, [1, 1, self.group, 1], shape=(BATCH, 1, STACKED, TOTAL))

    def _rotated(self, x: ir.Value) -> ir.Value:
        """Heads [B, heads, S, D] rotated by their positions' angles, element i with i + D/2; computed in float32."""
        writer = self.writer
        wide = writer.cast(x, FLOAT)
        first, second = writer.ops("Split", wide, results=[Result(), Result()], axis=-1, num_outputs=2)
        turned = writer.op("Concat", writer.op("Neg", second), first, axis=-1)
        rotated = writer.op("Add", writer.op("Mul", wide, self.cos), writer.op("Mul", turned, self.sin))
        return writer.cast(rotated, writer.dtype)

    def _mix(self, q: ir.Value, k: ir.Value, v: ir.Value) -> ir.Value:
        """Values mixed by the softmax of the scores, [B, H_kv, group * S, D]; bias and softmax in float32."""
        writer = self.writer
        scaled = writer.op("Mul", q, 1 / math.sqrt(self.config.head_dim))
        scores = writer.op("MatMul", scaled, writer.op("Transpose", k, perm=[0, 1, 3, 2]))
        weights = writer.op("Softmax", writer.op("Add", writer.cast(scores, FLOAT), self.bias), axis=-1)
        return writer.op("MatMul", writer.cast(weights, writer.dtype), v)
