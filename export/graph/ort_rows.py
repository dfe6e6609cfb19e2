"""The `ort` dialect in 16 bits: rows of their own length without an attention bias, as a GPU computes them fast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx_ir as ir

from minimind_edge.runtime.session.contract import BATCH, ROWS_CACHE

from .dialect import INT32, INT64
from .ort import OrtDialect, OrtInputs

if TYPE_CHECKING:
    from minimind_edge.minimind import MiniMindConfig, MiniMindForCausalLM


@dataclass(frozen=True)
class RowInputs(OrtInputs):
    """`OrtInputs` without `row_tokens`: every row has a token in every column of a run."""

    @classmethod
    def of(cls, config: MiniMindConfig, dtype: ir.DataType) -> RowInputs:
        """See `GraphInputs.of`."""
        step = OrtInputs.of(config, dtype)
        return cls(
            *(step.input_ids, step.past, step.attention_mask, step.position_ids, step.logits_start, step.row_lengths),
            row_tokens=None,
        )


class RowsDialect(OrtDialect):
    """`OrtDialect` with what ONNX Runtime's CUDA provider takes for its fused attention kernels, and the CPU takes too.

    A row's tokens lie in its first slots, and its position is its slot: nothing is left to hide or to renumber, so that
    GroupQueryAttention has neither `attention_bias`, with which the CUDA provider leaves its fused kernels, nor
    `position_ids`, nor `query_seqlens`, which only ONNX Runtime 1.32 knows. A row's length is the number of ones in its
    mask, or `row_lengths` where that is less. A chunk of several tokens after a past must be one row.
    """

    inputs = RowInputs
    cache = ROWS_CACHE

    def write_lengths(self) -> None:
        """The lengths that the operator takes, int32: each row's own, and the longest possible."""
        writer, step = self.writer, self.step
        self.total_length = writer.cast(writer.op("Shape", step.attention_mask, dtype=INT64, start=1, end=2), INT32)
        real = writer.op("ReduceSum", step.attention_mask, [1], keepdims=0, shape=(BATCH,))
        lengths = writer.op("Min", writer.cast(real, INT32), step.row_lengths, shape=(BATCH,))
        self.seqlens_k = writer.op("Sub", lengths, writer.constant(1, INT32), shape=(BATCH,))

    def attention_bias(self) -> None:
        """No bias: no row sees slots of padding."""

    def rotated_positions(self) -> None:
        """The operator rotates by slots."""

    def rotary_tables(self, model: MiniMindForCausalLM, max_length: int) -> tuple[ir.Value, ir.Value]:
        """See `OrtDialect.rotary_tables`; with a position more, for a token of padding after a full row."""
        return super().rotary_tables(model, max_length + 1)
