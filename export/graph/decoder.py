"""The decoder's graph: the structure of the model, which all targets share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, cast

import onnx_ir as ir

from minimind_edge.minimind import MOEFeedForward
from minimind_edge.runtime.session.contract import BATCH, LOGITS

from .dialect import FLOAT, Dialect, KeyValue
from .layers import feed_forward, linear, total
from .writer import GraphWriter, Result

if TYPE_CHECKING:
    from minimind_edge.minimind import FeedForward, MiniMindBlock, MiniMindForCausalLM


class DecoderGraph:
    """Writes embedding, blocks, final norm and head, as `MiniMindModel` and `MiniMindForCausalLM` compute them.

    The residual stream is float32 in every precision: trained models have numbers of tens of thousands in it, which
    more layers would take out of float16's range.

    Args:
        writer: The writer of the graph.
        model: The model.
        dialect: The dialect of the target.
    """

    def __init__(self, writer: GraphWriter, model: MiniMindForCausalLM, dialect: Dialect) -> None:
        self.writer = writer
        self.model = model
        self.dialect = dialect

    def write(self, layer_done: Callable[[int], None]) -> list[ir.Value]:
        """Write all nodes of the graph.

        Args:
            layer_done: Called with the index of each block once it is written.

        Returns:
            The outputs: logits [B, S, V] float32, of `Dialect.head_rows` only; then each block's present key and value.
        """
        decoder = self.model.model
        with self.writer.scope("embed_tokens"):
            x = self.writer.cast(self.writer.rows(decoder.embed_tokens.weight, self.dialect.step.input_ids), FLOAT)
        presents: list[ir.Value] = []
        for index, block in enumerate(cast("Iterable[MiniMindBlock]", decoder.layers)):
            with self.writer.scope("layers", index):
                x, present = self._block(block, index, x)
            presents += present
            layer_done(index)
        with self.writer.scope("norm"):
            x = self.dialect.rms_norm(self.dialect.head_rows(x), decoder.norm)
        with self.writer.scope("lm_head"):
            return [self._logits(x), *presents]

    def _block(self, block: MiniMindBlock, index: int, x: ir.Value) -> tuple[ir.Value, KeyValue]:
        with self.writer.scope("input_layernorm"):
            normalized = self.dialect.rms_norm(x, block.input_layernorm)
        with self.writer.scope("self_attn"):
            mixed, present = self.dialect.attend(block.self_attn, index, normalized)
            if index == self.model.config.num_hidden_layers - 1:
                mixed, x = self.dialect.wanted_tokens(mixed, x)
            with self.writer.scope("o_proj"):
                attended = linear(self.writer, mixed, block.self_attn.o_proj)
        x = self._added(x, attended)
        with self.writer.scope("post_attention_layernorm"):
            normalized = self.dialect.rms_norm(x, block.post_attention_layernorm)
        with self.writer.scope("mlp"):
            return self._added(x, self._mlp(block, index, normalized)), present

    def _added(self, residual: ir.Value, branch: ir.Value) -> ir.Value:
        return self.writer.op("Add", residual, self.writer.cast(branch, FLOAT))

    def _mlp(self, block: MiniMindBlock, index: int, x: ir.Value) -> ir.Value:
        if isinstance(block.mlp, MOEFeedForward):
            return self._mixture(block.mlp, index, x)
        return feed_forward(self.writer, x, block.mlp, self.model.config.hidden_act)

    def _mixture(self, moe: MOEFeedForward, index: int, x: ir.Value) -> ir.Value:
        outputs = [self.dialect.experts(moe, index, x)]
        shared: Iterable[FeedForward] = getattr(moe, "shared_experts", ())
        for number, expert in enumerate(shared):
            with self.writer.scope("shared_experts", number):
                outputs.append(feed_forward(self.writer, x, expert, self.model.config.hidden_act))
        return total(self.writer, outputs)

    def _logits(self, x: ir.Value) -> ir.Value:
        """The product by the head's weight; a tied head is the embedding's table, which is stored once."""
        head, embedding = self.model.lm_head.weight, self.model.model.embed_tokens.weight
        is_tied = head.data_ptr() == embedding.data_ptr()
        multiply = self.writer.product_with_rows if is_tied else self.writer.product
        shape = (BATCH, self.dialect.logits_rows, self.model.config.vocab_size)
        if self.writer.dtype == FLOAT:
            return multiply(x, embedding if is_tied else head, result=Result(LOGITS, shape=shape))
        product = multiply(x, embedding if is_tied else head)
        return self.writer.op("Cast", product, name=LOGITS, dtype=FLOAT, shape=shape, to=FLOAT.value)
