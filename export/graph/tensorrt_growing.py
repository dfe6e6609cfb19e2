"""The growing form of the `tensorrt` dialect, for parsers that are older than `TensorScatter`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx_ir as ir

from minimind_edge.runtime.session.contract import BATCH, PAST, SEQUENCE, TOTAL

from ..errors import ExportError
from .dialect import INT32, StepInputs, cache_inputs
from .portable import PortableDialect
from .tensorrt import last_rows
from .writer import GraphWriter, graph_input

if TYPE_CHECKING:
    from minimind_edge.minimind import MiniMindConfig, MiniMindForCausalLM

NEWER_ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh")
"""What came with opset 20."""


@dataclass(frozen=True)
class GrowingInputs(StepInputs):
    """The inputs of a graph whose cache grows, all int32: rows have the same slots, padding included.

    Attributes:
        last_index: [B] int32, of which of the S tokens the logits are wanted.
    """

    last_index: ir.Value

    @classmethod
    def of(cls, config: MiniMindConfig, dtype: ir.DataType) -> GrowingInputs:
        """See `GraphInputs.of`."""
        return cls(
            input_ids=graph_input("input_ids", INT32, (BATCH, SEQUENCE)),
            past=cache_inputs(config, dtype, PAST),
            attention_mask=graph_input("attention_mask", INT32, (BATCH, TOTAL)),
            position_ids=graph_input("position_ids", INT32, (BATCH, SEQUENCE)),
            last_index=graph_input("last_index", INT32, (BATCH,)),
        )

    def step_values(self) -> list[ir.Value]:
        """See `GraphInputs.step_values`."""
        return [*super().step_values(), self.last_index]


class GrowingTensorRTDialect(PortableDialect):
    """Opset 19, which TensorRT 10.3 of JetPack 6 parses; past and present are two buffers that take turns."""

    opset = 19
    inputs = GrowingInputs
    logits_rows = 1
    step: GrowingInputs

    def __init__(self, writer: GraphWriter, model: MiniMindForCausalLM, step: GrowingInputs, max_length: int) -> None:
        if model.config.hidden_act in NEWER_ACTIVATIONS:
            raise ExportError(
                f"hidden_act {model.config.hidden_act!r} needs opset 20, and the growing cache is for parsers of opset "
                f"{self.opset}; take the static one"
            )
        super().__init__(writer, model, step, max_length)

    def head_rows(self, x: ir.Value) -> ir.Value:
        """See `Dialect.head_rows`: one row of each chunk, [B, 1, H]."""
        return last_rows(self.writer, x, self.step.last_index)
