"""The `tensorrt` dialect: a cache of fixed size that is written in place, positions and mask computed inside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx_ir as ir

from minimind_edge.runtime.session.contract import BATCH, CAPACITY, INPUT_IDS, LAST_INDEX, SEQUENCE, WRITE_INDICES

from .dialect import BOOL, FLOAT, INT32, INT64, Dialect, GraphInputs, KeyValue, cache_inputs
from .layers import angles, cos_sin, fused_rms_norm, projections, static_experts
from .writer import GraphWriter, graph_input

if TYPE_CHECKING:
    from minimind_edge.minimind import Attention, MiniMindConfig, MiniMindForCausalLM, MOEFeedForward, RMSNorm


@dataclass(frozen=True)
class StaticInputs(GraphInputs):
    """The inputs of a graph whose rows count their own slots: a row's real tokens lie in its first slots, in order.

    Padding belongs after a chunk's real tokens. It is written after them as well, and the next chunk overwrites it
    before a query can see it.

    Attributes:
        write_indices: [B] int32, the slot of each row's first token: how many tokens the row holds.
        last_index: [B] int32, the one of the S tokens whose logits are wanted.
    """

    write_indices: ir.Value
    last_index: ir.Value

    @classmethod
    def of(cls, config: MiniMindConfig, dtype: ir.DataType) -> StaticInputs:
        """See `GraphInputs.of`."""
        return cls(
            input_ids=graph_input(INPUT_IDS, INT32, (BATCH, SEQUENCE)),
            past=cache_inputs(config, dtype, CAPACITY),
            write_indices=graph_input(WRITE_INDICES, INT32, (BATCH,)),
            last_index=graph_input(LAST_INDEX, INT32, (BATCH,)),
        )

    def step_values(self) -> list[ir.Value]:
        """See `GraphInputs.step_values`."""
        return [self.write_indices, self.last_index]


class TensorRTDialect(Dialect):
    """Opset 24 for `TensorScatter`, in the forms that TensorRT's parser takes and ONNX Runtime's CPU runs as well.

    `Attention` has one output and an explicit boolean mask: TensorRT refuses a past inside of it, takes `is_causal` to
    count from the cache's first slot, and ignores `nonpad_kv_seqlen`. All experts compute all tokens: gathering
    the chosen experts' weights would move more memory than it saves, see docs/tensorrt-graph.md.
    """

    opset = 24
    inputs = StaticInputs
    logits_rows = 1
    step: StaticInputs

    def __init__(self, writer: GraphWriter, model: MiniMindForCausalLM, step: StaticInputs, max_length: int) -> None:
        super().__init__(writer, model, step, max_length)
        with writer.scope("positions"):
            self.write_indices = writer.cast(step.write_indices, INT64)
            self.positions = self._positions()
        with writer.scope("attention_mask"):
            self.mask = self._mask()
        with writer.scope("rotary_emb"):
            positions = writer.op("Unsqueeze", writer.cast(self.positions, FLOAT), [2])
            self.cos, self.sin = cos_sin(writer, angles(writer, positions, model), model)

    def rms_norm(self, x: ir.Value, norm: RMSNorm) -> ir.Value:
        """See `Dialect.rms_norm`."""
        return fused_rms_norm(self.writer, x, norm)

    def attend(self, attention: Attention, layer: int, x: ir.Value) -> tuple[ir.Value, KeyValue]:
        """See `Dialect.attend`; the present has the past's shape, and may have its memory."""
        heads, key_heads, dim = self.config.num_attention_heads, self.config.num_key_value_heads, self.config.head_dim
        q, k, v = projections(self.writer, attention, x)
        q = self._rotated(self.heads_first(q, heads, attention.q_norm))
        k = self._rotated(self.heads_first(k, key_heads, attention.k_norm))
        v = self.heads_first(v, key_heads)
        key, value = (
            self.writer.op(
                "TensorScatter", past, new, self.write_indices, name=name, shape=self.present_shape(), axis=-2
            )
            for past, new, name in zip(self.step.past[layer], (k, v), self.present(layer), strict=True)
        )
        mixed = self.writer.op("Attention", q, key, value, self.mask, shape=(BATCH, heads, SEQUENCE, dim))
        return self.heads_last(mixed, heads), (key, value)

    def experts(self, moe: MOEFeedForward, layer: int, x: ir.Value) -> ir.Value:
        """See `Dialect.experts`."""
        return static_experts(self.writer, moe, layer, x, self.config.hidden_act)

    def head_rows(self, x: ir.Value) -> ir.Value:
        """See `Dialect.head_rows`: one row of each chunk, [B, 1, H]."""
        return last_rows(self.writer, x, self.step.last_index)

    def present_shape(self) -> tuple[str, int, str, int]:
        """See `Dialect.present_shape`."""
        return BATCH, self.config.num_key_value_heads, CAPACITY, self.config.head_dim

    def _positions(self) -> ir.Value:
        """The position of each token, which is its slot too, [B, S] int64."""
        writer = self.writer
        length = writer.op("Squeeze", writer.op("Shape", self.step.input_ids, dtype=INT64, start=1, end=2))
        offsets = writer.op("Range", 0, length, 1, dtype=INT64, shape=(SEQUENCE,))
        return writer.op("Add", writer.op("Unsqueeze", self.write_indices, [1]), offsets, shape=(BATCH, SEQUENCE))

    def _mask(self) -> ir.Value:
        """The mask of the slots that each token sees, those up to its own, [B, 1, S, C] bool."""
        writer = self.writer
        key, _ = self.step.past[0]
        capacity = writer.op("Squeeze", writer.op("Shape", key, dtype=INT64, start=2, end=3))
        slots = writer.op("Range", 0, capacity, 1, dtype=INT64, shape=(CAPACITY,))
        own = writer.op("Unsqueeze", self.positions, [1, 3])
        return writer.op("LessOrEqual", slots, own, dtype=BOOL, shape=(BATCH, 1, SEQUENCE, CAPACITY))

    def _rotated(self, x: ir.Value) -> ir.Value:
        """Heads [B, heads, S, D] rotated by their positions' angles, in float32."""
        writer = self.writer
        rotated = writer.op("RotaryEmbedding", writer.cast(x, FLOAT), self.cos, self.sin)
        return writer.cast(rotated, writer.dtype)


def last_rows(writer: GraphWriter, x: ir.Value, last_index: ir.Value) -> ir.Value:
    """One row of each chunk, [B, 1, H].

    Args:
        writer: The writer of the graph.
        x: [B, S, H].
        last_index: [B] int32, the row of each chunk.
    """
    with writer.scope("last_index"):
        column = writer.op("Unsqueeze", writer.cast(last_index, INT64), [1])
        return writer.op("Unsqueeze", writer.op("GatherND", x, column, batch_dims=1), [1])
