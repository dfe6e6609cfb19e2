"""The `ort` dialect: ONNX Runtime's fused operators, past and present in one buffer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import onnx_ir as ir
import torch

from minimind_edge.minimind import RMSNorm
from minimind_edge.runtime.session.contract import (
    BATCH,
    LOGITS_LENGTH,
    LOGITS_START,
    OPTIONAL_INPUTS,
    ROW_LENGTHS,
    ROW_TOKENS,
    ROWS,
    SEQUENCE,
)

from .dialect import BOOL, FLOAT, HIDDEN, INT32, INT64, Dialect, KeyValue, StepInputs
from .grouped_experts import grouped_experts
from .layers import fused_rms_norm, static_experts
from .writer import MICROSOFT, GraphWriter, Operand, Result, optional_input

if TYPE_CHECKING:
    from minimind_edge.minimind import Attention, MiniMindConfig, MiniMindForCausalLM, MOEFeedForward

HEAD_DIM_MULTIPLE = 8
"""GroupQueryAttention takes head widths that are multiples of this."""

ROTATED_MULTIPLE = 16
"""GroupQueryAttention rotates head widths that are multiples of this; others are rotated before it."""

FLOAT16_HIDDEN = -3.0e4
"""`HIDDEN` for float16 scores: half of float16's lowest number, so that adding a score does not overflow."""


NO_LIMIT = torch.iinfo(torch.int32).max
"""The default of `row_lengths` and `row_tokens`: all rows have the slots of the mask and the tokens of `input_ids`."""

TO_THE_END = torch.iinfo(torch.int64).max

WHOLE_SCORES = 8192
"""The longest context whose attention computes whole rows of scores: 8 MB for each head, for a chunk of 256 tokens."""


@dataclass(frozen=True)
class OrtInputs(StepInputs):
    """`StepInputs`, and inputs that may be left out: see `minimind_edge.runtime.ort.optional_inputs`.

    Attributes:
        logits_start: [1] int64, the first of the S tokens whose logits are wanted; below 0 it counts from the end. By
            default all of them are.
        row_lengths: [B] int32, the most slots of each row after the run, where the mask has more.
        row_tokens: [B] int32, the most tokens of each row in this run, its first ones, where S is more; None for a
            graph without this input.
    """

    logits_start: ir.Value
    row_lengths: ir.Value
    row_tokens: ir.Value | None

    @classmethod
    def of(cls, config: MiniMindConfig, dtype: ir.DataType) -> OrtInputs:
        """See `GraphInputs.of`."""
        step = StepInputs.of(config, dtype)
        start, lengths, tokens = (
            optional_input(name, default, *OPTIONAL_INPUTS[name])
            for name, default in ((LOGITS_START, 0), (ROW_LENGTHS, NO_LIMIT), (ROW_TOKENS, NO_LIMIT))
        )
        return cls(
            *(step.input_ids, step.past, step.attention_mask, step.position_ids),
            logits_start=start,
            row_lengths=lengths,
            row_tokens=tokens,
        )

    def optional(self) -> list[ir.Value]:
        """See `GraphInputs.optional`."""
        return [self.logits_start, self.row_lengths, *([] if self.row_tokens is None else [self.row_tokens])]


class OrtDialect(Dialect):
    """Opset 23 for `RMSNormalization`; GroupQueryAttention with `query_seqlens` needs ONNX Runtime 1.32.

    Every row of a batch has the same slots, padding included: `seqlens_k` and `query_seqlens` are alike for all rows,
    `attention_bias` hides the padding, and `position_ids` rotates each row by its own positions. Giving `query_seqlens`
    is what makes the operator honour the positions of every row, and take chunks of several rows after a past.
    """

    opset = 23
    inputs = OrtInputs
    logits_rows = LOGITS_LENGTH
    step: OrtInputs

    def __init__(self, writer: GraphWriter, model: MiniMindForCausalLM, step: OrtInputs, max_length: int) -> None:
        super().__init__(writer, model, step, max_length)
        self.rotates_inside = self.config.head_dim % ROTATED_MULTIPLE == 0
        self.query_seqlens: ir.Value | None = None
        with writer.scope("lengths"):
            self.write_lengths()
        with writer.scope("attention_bias"):
            self.bias = self.attention_bias()
        self.cos, self.sin = self.rotary_tables(model, max_length)
        self.sinks = self._empty_sinks() if self.writer.dtype == FLOAT and max_length <= WHOLE_SCORES else None

    def rms_norm(self, x: ir.Value, norm: RMSNorm) -> ir.Value:
        """See `Dialect.rms_norm`."""
        return fused_rms_norm(self.writer, x, norm)

    def attend(self, attention: Attention, layer: int, x: ir.Value) -> tuple[ir.Value, KeyValue]:
        """See `Dialect.attend`; queries, keys and values are one product, which the operator splits."""
        heads, key_heads, dim = self.config.num_attention_heads, self.config.num_key_value_heads, self.config.head_dim
        scale = self._remaining_scale(attention)
        with self.writer.scope("qkv_proj"):
            weights = (attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight)
            packed = self.writer.product(x, *weights)
        query: Sequence[Operand] = (packed, None, None)
        if self.config.qk_norm or not self.rotates_inside:
            query = self._queries_keys_values(packed, attention)
        cache: list[Operand] = [*self.step.past[layer], self.seqlens_k, self.total_length]
        rotation: list[Operand] = [None, None, None]
        if self.rotates_inside:
            rotation = [self.cos, self.sin, self.rotated_positions()]
        scales, format_attributes = self.cache_format(layer)
        operands = [*query, *cache, *rotation, self.bias, self.sinks, *scales, None, None, self.query_seqlens]
        while operands[-1] is None:
            operands.pop()
        mixed, key, value = self.writer.ops(
            "GroupQueryAttention",
            *operands,
            results=[
                Result(shape=(BATCH, SEQUENCE, heads * dim)),
                *(Result(name, self.step.past[layer][0].dtype, self.present_shape()) for name in self.present(layer)),
            ],
            domain=MICROSOFT,
            num_heads=heads,
            kv_num_heads=key_heads,
            scale=scale,
            do_rotary=int(self.rotates_inside),
            **format_attributes,
        )
        return mixed, (key, value)

    def _remaining_scale(self, attention: Attention) -> float:
        """Fold the scale of the scores into the queries' weights; gives what the operator has still to multiply by.

        Without a scale, the operator's matrix products of a decode step read the cached keys as they lie; with one,
        they first copy them into another order. Weights in 16 bits keep theirs, as they would be rounded once more.
        """
        scale = 1 / math.sqrt(self.config.head_dim)
        if self.writer.dtype != FLOAT:
            return scale
        last = attention.q_norm if isinstance(attention.q_norm, RMSNorm) else attention.q_proj
        self.writer.fold(scale, last.weight)
        return 1.0

    def cache_format(self, layer: int) -> tuple[tuple[Operand, Operand], dict[str, Any]]:
        """The scales of a block's cached keys and values, and the attributes for them; a float cache has none."""
        return (None, None), {}

    def wanted_tokens(self, mixed: ir.Value, x: ir.Value) -> tuple[ir.Value, ir.Value]:
        """See `Dialect.wanted_tokens`: the tokens from `logits_start` on."""
        writer, start = self.writer, self.step.logits_start
        writer.tokens = BATCH, LOGITS_LENGTH
        width = self.config.num_attention_heads * self.config.head_dim
        return (
            writer.op("Slice", mixed, start, [TO_THE_END], [1], shape=(*writer.tokens, width)),
            writer.op("Slice", x, start, [TO_THE_END], [1], shape=(*writer.tokens, self.config.hidden_size)),
        )

    def experts(self, moe: MOEFeedForward, layer: int, x: ir.Value) -> ir.Value:
        """See `Dialect.experts`; in float32 only the chosen experts are read."""
        write = grouped_experts if self.writer.dtype == FLOAT else static_experts
        return write(self.writer, moe, layer, x, self.config.hidden_act)

    def rotated_positions(self) -> ir.Value | None:
        """The positions by which the operator rotates, [B, S]; None for each token's slot."""
        return self.step.position_ids

    def write_lengths(self) -> None:
        """The lengths that the operator takes, int32: the rows' own, or the same for every row."""
        writer, step = self.writer, self.step
        batch = writer.op("Shape", step.input_ids, dtype=INT64, start=0, end=1)
        total = writer.op("Shape", step.attention_mask, dtype=INT64, start=1, end=2)
        self.length = writer.op("Shape", step.input_ids, dtype=INT64, start=1, end=2)
        self.total_length = writer.cast(total, INT32)
        lengths = writer.op("Min", self.total_length, step.row_lengths, shape=(ROWS,))
        tokens = writer.op("Min", writer.cast(self.length, INT32), step.row_tokens, shape=(ROWS,))
        last = writer.op("Sub", lengths, writer.constant(1, INT32), shape=(ROWS,))
        self.seqlens_k = writer.op("Expand", last, batch, shape=(BATCH,))
        self.query_seqlens = writer.op("Expand", tokens, batch, shape=(BATCH,))

    def attention_bias(self) -> ir.Value | None:
        """The bias of the scores, [B, 1, S, P+S]: 0 for real slots, else `HIDDEN`; the operator itself is causal."""
        writer = self.writer
        hidden = HIDDEN if writer.dtype == FLOAT else FLOAT16_HIDDEN
        slots = writer.op("Where", writer.cast(self.step.attention_mask, BOOL), 0.0, hidden, dtype=writer.dtype)
        shape = writer.op("Concat", self.length, [1], axis=0)
        return writer.op("Expand", writer.op("Unsqueeze", slots, [1, 2]), shape)

    def rotary_tables(self, model: MiniMindForCausalLM, max_length: int) -> tuple[ir.Value, ir.Value]:
        """Cosine and sine of every position's angles, each [max_length, D/2]."""
        half = self.config.head_dim // 2

        def table(part: int) -> torch.Tensor:
            both: tuple[torch.Tensor, torch.Tensor] = model.model.rotary_emb(torch.arange(max_length)[None])
            return both[part][0, :, :half]

        cos = self.writer.stored("rotary_emb.cos", lambda: table(0), (max_length, half))
        return cos, self.writer.stored("rotary_emb.sin", lambda: table(1), (max_length, half))

    def _empty_sinks(self) -> ir.Value:
        """Attention sinks, [H], that add nothing to any sum: exp(lowest - largest score) is 0.

        On the CPU, the operator computes whole rows of scores where it has sinks, and otherwise blocks of them (flash
        attention), which saves memory in prompts and makes a decode step slower.
        """
        heads = self.config.num_attention_heads
        return self.writer.stored("attention.sinks", lambda: torch.full((heads,), torch.finfo().min), (heads,))

    def _queries_keys_values(self, packed: ir.Value, attention: Attention) -> tuple[ir.Value, ir.Value, ir.Value]:
        """Queries and keys, normalised where the model does and rotated where the operator cannot, and values.

        Each is [B, S, heads * D].
        """
        writer, config = self.writer, self.config
        widths = [heads * config.head_dim for heads in (config.num_attention_heads, *[config.num_key_value_heads] * 2)]
        q, k, v = writer.ops("Split", packed, widths, results=[Result()] * 3, axis=-1)
        if config.qk_norm:
            q = self.split_heads(q, config.num_attention_heads, attention.q_norm)
            k = self.split_heads(k, config.num_key_value_heads, attention.k_norm)
            q, k = writer.op("Reshape", q, [0, 0, widths[0]]), writer.op("Reshape", k, [0, 0, widths[1]])
        if self.rotates_inside:
            return q, k, v
        return self._rotated(q, config.num_attention_heads), self._rotated(k, config.num_key_value_heads), v

    def _rotated(self, x: ir.Value, heads: int) -> ir.Value:
        """Queries or keys [B, S, heads * D] rotated by their tokens' positions."""
        return self.writer.op("RotaryEmbedding", x, self.cos, self.sin, self.step.position_ids, num_heads=heads)
