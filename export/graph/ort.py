"""The `ort` dialect: ONNX Runtime's fused operators, past and present in one buffer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import onnx_ir as ir
import torch
from torch import nn

from ..errors import ExportError
from .dialect import (
    BATCH,
    BOOL,
    FLOAT,
    HIDDEN,
    INT32,
    INT64,
    SEQUENCE,
    Dialect,
    KeyValue,
    StepInputs,
    topk_indices_name,
)
from .layers import experts_of, router_logits, static_experts
from .writer import MICROSOFT, GraphWriter, Operand, Result

if TYPE_CHECKING:
    from minimind_edge.minimind import Attention, MiniMindForCausalLM, MOEFeedForward, RMSNorm

HEAD_DIM_MULTIPLE = 16
"""GroupQueryAttention rotates heads of such widths only."""


FLOAT16_HIDDEN = -3.0e4
"""`HIDDEN` for float16 scores: half of their lowest number, so that no score takes the sum out of range."""


class OrtDialect(Dialect):
    """Opset 23 for `RMSNormalization`; GroupQueryAttention with `query_seqlens` needs ONNX Runtime 1.32.

    Every row of a batch has the same slots, padding included: `seqlens_k` and `query_seqlens` are alike for all rows,
    `attention_bias` hides the padding, and `position_ids` rotates each row by its own positions. Giving `query_seqlens`
    is what makes the operator honour the positions of every row, and take chunks of several rows behind a past.
    """

    opset = 23
    step: StepInputs

    def __init__(self, writer: GraphWriter, model: MiniMindForCausalLM, step: StepInputs, max_length: int) -> None:
        super().__init__(writer, model, step, max_length)
        if self.config.head_dim % HEAD_DIM_MULTIPLE:
            raise ExportError(
                f"target ort takes a head_dim that is a multiple of {HEAD_DIM_MULTIPLE}, found {self.config.head_dim}; "
                "export with --target portable"
            )
        with writer.scope("lengths"):
            self._write_lengths()
        with writer.scope("attention_bias"):
            self.bias = self._attention_bias()
        self.cos, self.sin = self._rotary_tables(model, max_length)

    def rms_norm(self, x: ir.Value, norm: RMSNorm) -> ir.Value:
        """See `Dialect.rms_norm`."""
        writer = self.writer
        wide, weight = writer.cast(x, FLOAT), writer.weight(norm.weight, dtype=FLOAT)
        return writer.cast(writer.op("RMSNormalization", wide, weight, axis=-1, epsilon=norm.eps), writer.dtype)

    def attend(
        self, attention: Attention, layer: int, q: ir.Value, k: ir.Value, v: ir.Value
    ) -> tuple[ir.Value, KeyValue]:
        """See `Dialect.attend`."""
        heads, key_heads, dim = self.config.num_attention_heads, self.config.num_key_value_heads, self.config.head_dim
        if self.config.qk_norm:
            q = self._normalized(q, heads, attention.q_norm)
            k = self._normalized(k, key_heads, attention.k_norm)
        cache: list[Operand] = [*self.step.past[layer], self.seqlens_k, self.total_length]
        rotation: list[Operand] = [self.cos, self.sin, self.step.position_ids]
        unused: list[Operand] = [None] * 5
        mixed, key, value = self.writer.ops(
            "GroupQueryAttention",
            *(q, k, v, *cache, *rotation, self.bias, *unused, self.query_seqlens),
            results=[
                Result(shape=(BATCH, SEQUENCE, heads * dim)),
                *(Result(name, shape=self.present_shape()) for name in self.present(layer)),
            ],
            domain=MICROSOFT,
            num_heads=heads,
            kv_num_heads=key_heads,
            scale=1 / math.sqrt(dim),
            do_rotary=1,
        )
        return mixed, (key, value)

    def experts(self, moe: MOEFeedForward, layer: int, x: ir.Value) -> ir.Value:
        """See `Dialect.experts`; by `MoE`, which reads the chosen experts alone, where its kernel fits."""
        if self.config.hidden_act != "silu" or self.writer.dtype != FLOAT:
            return static_experts(self.writer, moe, layer, x, self.config.hidden_act)
        writer, gate = self.writer, moe.gate
        with writer.scope("gate"):
            logits = router_logits(writer, gate, x)
            writer.ops(
                "TopK", logits, [gate.top_k], results=[Result(), Result(topk_indices_name(layer), INT64)], axis=-1
            )
            flat = writer.op("Reshape", logits, [-1, gate.num_experts], shape=("token_count", gate.num_experts))
        with writer.scope("experts"):
            return writer.op(
                "MoE",
                x,
                flat,
                *self._expert_weights(moe, layer),
                shape=(BATCH, SEQUENCE, self.config.hidden_size),
                domain=MICROSOFT,
                k=gate.top_k,
                normalize_routing_weights=int(gate.normalizes),
                activation_type="swiglu",
                swiglu_fusion=1,
                activation_alpha=1.0,
                activation_beta=0.0,
            )

    def _write_lengths(self) -> None:
        """Lengths that the operator asks for, the same for every row, int32."""
        writer, step = self.writer, self.step
        batch = writer.op("Shape", step.input_ids, dtype=INT64, start=0, end=1)
        total = writer.op("Shape", step.attention_mask, dtype=INT64, start=1, end=2)
        self.length = writer.op("Shape", step.input_ids, dtype=INT64, start=1, end=2)
        self.total_length = writer.cast(total, INT32)
        self.seqlens_k = writer.op("Expand", writer.cast(writer.op("Sub", total, 1), INT32), batch)
        self.query_seqlens = writer.op("Expand", writer.cast(self.length, INT32), batch)

    def _attention_bias(self) -> ir.Value:
        """What to add to scores, [B, 1, S, P+S]: 0 for real slots, else `HIDDEN`; causality is the operator's own."""
        writer = self.writer
        hidden = HIDDEN if writer.dtype == FLOAT else FLOAT16_HIDDEN
        slots = writer.op("Where", writer.cast(self.step.attention_mask, BOOL), 0.0, hidden, dtype=writer.dtype)
        shape = writer.op("Concat", self.length, [1], axis=0)
        return writer.op("Expand", writer.op("Unsqueeze", slots, [1, 2]), shape)

    def _rotary_tables(self, model: MiniMindForCausalLM, max_length: int) -> tuple[ir.Value, ir.Value]:
        """Cosine and sine of every position's angles, each [max_length, D/2]."""
        half = self.config.head_dim // 2

        def table(part: int) -> torch.Tensor:
            both: tuple[torch.Tensor, torch.Tensor] = model.model.rotary_emb(torch.arange(max_length)[None])
            return both[part][0, :, :half]

        cos = self.writer.stored("rotary_emb.cos", lambda: table(0), (max_length, half))
        return cos, self.writer.stored("rotary_emb.sin", lambda: table(1), (max_length, half))

    def _normalized(self, x: ir.Value, heads: int, norm: nn.Module) -> ir.Value:
        """Projected queries or keys, normalised head by head, [B, S, heads * D]."""
        return self.writer.op("Reshape", self.split_heads(x, heads, norm), [0, 0, heads * self.config.head_dim])

    def _expert_weights(self, moe: MOEFeedForward, layer: int) -> list[ir.Value | None]:
        """All experts' weights as `MoE` takes them: rows of gate and up by turns, then down; no biases."""
        experts, hidden = experts_of(moe), self.config.hidden_size
        width = self.config.moe_intermediate_size

        def gate_up() -> torch.Tensor:
            pairs = [torch.stack((expert.gate_proj.weight, expert.up_proj.weight), dim=1) for expert in experts]
            return torch.stack(pairs).flatten(1, 2)

        def down() -> torch.Tensor:
            return torch.stack([expert.down_proj.weight for expert in experts])

        prefix = f"model.layers.{layer}.mlp.experts"
        return [
            self.writer.stored(f"{prefix}.gate_up_proj.weight", gate_up, (len(experts), 2 * width, hidden)),
            None,
            self.writer.stored(f"{prefix}.down_proj.weight", down, (len(experts), hidden, width)),
        ]
