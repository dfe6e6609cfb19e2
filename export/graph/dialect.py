"""The dialect of a target: the parts of a decoder's graph that targets write differently."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import onnx_ir as ir
from torch import nn

from minimind_edge.minimind import RMSNorm
from minimind_edge.runtime.session.contract import (
    ATTENTION_MASK,
    BATCH,
    INPUT_IDS,
    PAST,
    PAST_KEY_VALUES,
    POSITION_IDS,
    PRESENT,
    SEQUENCE,
    TOTAL,
    layer_cache_names,
)

from .writer import GraphWriter, graph_input

if TYPE_CHECKING:
    from minimind_edge.minimind import Attention, MiniMindConfig, MiniMindForCausalLM, MOEFeedForward

FLOAT, FLOAT16 = ir.DataType.FLOAT, ir.DataType.FLOAT16
INT32, INT64, BOOL = ir.DataType.INT32, ir.DataType.INT64, ir.DataType.BOOL

HIDDEN = -1.0e30
"""The number that is added to the float32 score of a key that a query may not see, so that softmax makes it 0. It is
finite, so that a row whose every key is hidden gives meaningless numbers instead of NaN."""

KeyValue = tuple[ir.Value, ir.Value]


@dataclass(frozen=True)
class GraphInputs(ABC):
    """The inputs of every graph with a cache.

    Attributes:
        input_ids: [B, S], int64 unless a target has it otherwise.
        past: A (key, value) per block, each [B, H_kv, P, D].
    """

    input_ids: ir.Value
    past: tuple[KeyValue, ...]

    @classmethod
    @abstractmethod
    def of(cls, config: MiniMindConfig, dtype: ir.DataType) -> GraphInputs:
        """The inputs for an architecture, the cache in this dtype."""

    @abstractmethod
    def step_values(self) -> list[ir.Value]:
        """The inputs between `input_ids` and the cache."""

    def values(self) -> list[ir.Value]:
        """All inputs of the graph's file, in its order."""
        return [self.input_ids, *self.step_values(), *(value for pair in self.past for value in pair)]

    def optional(self) -> list[ir.Value]:
        """The constants of the graph's file that this project's runtime makes inputs, which may be left out."""
        return []


@dataclass(frozen=True)
class StepInputs(GraphInputs):
    """The inputs of a graph whose rows have the same slots, padding included.

    Attributes:
        attention_mask: [B, P+S] int64, 1 for real tokens and 0 for padding.
        position_ids: [B, S] int64.
    """

    attention_mask: ir.Value
    position_ids: ir.Value

    @classmethod
    def of(cls, config: MiniMindConfig, dtype: ir.DataType) -> StepInputs:
        """See `GraphInputs.of`."""
        return cls(
            input_ids=graph_input(INPUT_IDS, INT64, (BATCH, SEQUENCE)),
            past=cache_inputs(config, dtype, PAST),
            attention_mask=graph_input(ATTENTION_MASK, INT64, (BATCH, TOTAL)),
            position_ids=graph_input(POSITION_IDS, INT64, (BATCH, SEQUENCE)),
        )

    def step_values(self) -> list[ir.Value]:
        """See `GraphInputs.step_values`."""
        return [self.attention_mask, self.position_ids]


def cache_inputs(config: MiniMindConfig, dtype: ir.DataType, slots: str) -> tuple[KeyValue, ...]:
    """A (key, value) per block, each [B, H_kv, slots, D].

    Args:
        config: The architecture.
        dtype: The cache's type.
        slots: The name of the axis of slots.
    """
    shape = (BATCH, config.num_key_value_heads, slots, config.head_dim)
    names = (layer_cache_names(PAST_KEY_VALUES, layer) for layer in range(config.num_hidden_layers))
    return tuple((graph_input(key, dtype, shape), graph_input(value, dtype, shape)) for key, value in names)


class Dialect(ABC):
    """How one target writes norms, attention and experts; an object serves one graph.

    Args:
        writer: The writer of the graph.
        model: The model that becomes the graph.
        step: The inputs of the graph.
        max_length: The largest number of positions that the graph must know, in tokens.

    Attributes:
        opset: The version of the standard operators that the target's graphs use.
        inputs: The class of their inputs.
        logits_rows: The axis of the logits' tokens: a name, or 1.
        cache: The form of the KV cache, see `GraphFacts`; None for the target's usual one.

    Raises:
        ExportError: The target cannot hold this model.
    """

    opset: ClassVar[int]
    inputs: ClassVar[type[GraphInputs]] = StepInputs
    logits_rows: ClassVar[str | int] = SEQUENCE
    cache: ClassVar[str | None] = None

    def __init__(self, writer: GraphWriter, model: MiniMindForCausalLM, step: GraphInputs, max_length: int) -> None:
        self.writer = writer
        self.config = model.config
        self.step = step
        writer.tokens = BATCH, SEQUENCE

    @abstractmethod
    def rms_norm(self, x: ir.Value, norm: RMSNorm) -> ir.Value:
        """Normalise the last axis of `x`, in float32; the result has the graph's dtype."""

    @abstractmethod
    def attend(self, attention: Attention, layer: int, x: ir.Value) -> tuple[ir.Value, KeyValue]:
        """Project, normalise (where the model does) and rotate, and attend to the past and to the tokens themselves.

        Args:
            attention: The attention module, whose output projection is written elsewhere.
            layer: Index of the block.
            x: The block's normalised input, [B, S, H].

        Returns:
            The mixed values [B, S, H_q * D]; the present key and value, each [B, H_kv, P+S, D].
        """

    @abstractmethod
    def experts(self, moe: MOEFeedForward, layer: int, x: ir.Value) -> ir.Value:
        """The weighted sum of the routed experts' outputs, [B, S, H].

        The chosen experts, [B, S, k] int64, get the name of `topk_indices_name`.
        """

    def wanted_tokens(self, mixed: ir.Value, x: ir.Value) -> tuple[ir.Value, ir.Value]:
        """The tokens that are computed further after the last attention; the others' results are not needed.

        Args:
            mixed: The last attention's mixed values, [B, S, H_q * D].
            x: The residual stream, [B, S, H].
        """
        return mixed, x

    def head_rows(self, x: ir.Value) -> ir.Value:
        """The rows of the last block's output [B, S, H] that become logits."""
        return x

    def present(self, layer: int) -> tuple[str, str]:
        """Names of a block's present key and value."""
        return layer_cache_names(PRESENT, layer)

    def present_shape(self) -> tuple[str, int, str, int]:
        """Shape of each present key and value."""
        return BATCH, self.config.num_key_value_heads, TOTAL, self.config.head_dim

    def split_heads(self, x: ir.Value, heads: int, norm: nn.Module | None = None) -> ir.Value:
        """A projection as heads, [B, S, heads, D]; normalised where `norm` is a norm."""
        split = self.writer.op("Reshape", x, [0, 0, heads, self.config.head_dim])
        return self.rms_norm(split, norm) if isinstance(norm, RMSNorm) else split

    def heads_first(self, x: ir.Value, heads: int, norm: nn.Module | None = None) -> ir.Value:
        """A projection as heads, normalised where `norm` is a norm, [B, heads, S, D]."""
        return self.writer.op("Transpose", self.split_heads(x, heads, norm), perm=[0, 2, 1, 3])

    def heads_last(self, x: ir.Value, heads: int) -> ir.Value:
        """Heads [B, heads, S, D] side by side, [B, S, heads * D]."""
        tokens = self.writer.op("Transpose", x, perm=[0, 2, 1, 3])
        return self.writer.op("Reshape", tokens, [0, 0, heads * self.config.head_dim])


def topk_indices_name(layer: int) -> str:
    """The name of the value that holds a block's chosen experts, by which a comparison finds it."""
    return f"layers.{layer}.moe.topk_indices"
