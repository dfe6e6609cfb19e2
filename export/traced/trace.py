"""Tracing a model's own code into an ONNX graph, by `torch.onnx.export`."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import onnx_ir as ir
import torch

from minimind_edge.runtime.session.contract import (
    BATCH,
    CAPACITY,
    INPUTS,
    PAST,
    SEQUENCE,
    TOTAL,
    cache_names,
)

from .experts import require_static
from .owner import ModelFacts, OwnersModel
from .step import GrowingStep, StaticStep

STEPS: dict[str, type[GrowingStep]] = {"portable": GrowingStep, "tensorrt": StaticStep}
OPSETS = {"portable": 21, "tensorrt": 24}
"""The opset of each target, the same as in graphs that are written node by node."""

IR_VERSIONS = {21: 10, 24: 12}

FOLDED = 1024
"""The most bytes of a constant that constant folding may use, so that it leaves weights as they are."""


def trace(own: OwnersModel, target: str, max_length: int) -> tuple[ir.Model, GrowingStep]:
    """Trace a model in float32, with the names and axes of graphs that are written node by node.

    Args:
        own: The model.
        target: `portable` or `tensorrt`.
        max_length: The most positions that the graph is to hold, in tokens.

    Returns:
        The graph, whose weights are the model's own tensors; and the traced module, whose parameters have their names.

    Raises:
        ExportError: The code cannot be traced; the message says what to replace.
    """
    import onnxscript.optimizer

    step = STEPS[target](own, max_length).eval()
    layers = own.facts.num_hidden_layers
    inputs = [*INPUTS[target], *cache_names("past_key_values", layers)]
    outputs = ["logits", *cache_names("present", layers)]
    try:
        with _quietly(), torch.no_grad():
            exported = torch.export.export(step, step.example(), dynamic_shapes=step.dynamic_shapes(), strict=False)
            program = torch.onnx.export(
                exported,
                dynamo=True,
                input_names=inputs,
                output_names=outputs,
                opset_version=OPSETS[target],
                optimize=False,
                verbose=False,
            )
            assert program is not None
            model: ir.Model = program.model
            onnxscript.optimizer.optimize_ir(model, input_size_limit=FOLDED, should_fold=_should_fold)
    except Exception as error:  # the owner's code may raise anything, and the owner has to read it
        raise require_static(error, step.kept) from error
    _describe(model, own.facts, target, inputs, outputs)
    return model, step


def _should_fold(node: ir.Node) -> bool | None:
    """False for a node that transposes or converts a weight, which would be stored twice; None for the default."""
    return False if node.op_type in ("Transpose", "Cast") else None


def _describe(model: ir.Model, facts: ModelFacts, target: str, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Name the axes as in written graphs, and remove the paths of this machine that the exporter records."""
    graph = model.graph
    model.opset_imports[""] = graph.opset_imports[""] = OPSETS[target]
    model.ir_version = IR_VERSIONS[OPSETS[target]]
    model.metadata_props.clear()
    model.producer_name, model.producer_version = "minimind-edge", None
    graph.metadata_props.clear()
    for node in graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
            value.shape = None  # it had the trace's own symbols
    assert [value.name for value in graph.inputs] == list(inputs)
    assert [value.name for value in graph.outputs] == list(outputs)
    for name, value in graph.initializers.items():
        if value.const_value is not None:
            value.const_value.name = name  # the file is written by the tensor's name
    for value in (*graph.inputs, *graph.outputs, *graph.initializers.values()):
        value.metadata_props.clear()
        value.doc_string = None
    for value in (*graph.inputs, *graph.outputs):
        value.shape = ir.Shape(_axes(value.name or "", facts, target))


def _axes(name: str, facts: ModelFacts, target: str) -> tuple[int | str, ...]:
    """The shape of an input or output."""
    if name.startswith(("past_key_values", "present")):
        grown = PAST if name.startswith("past") else TOTAL
        slots = CAPACITY if target == "tensorrt" else grown
        return BATCH, facts.num_key_value_heads, slots, facts.head_dim
    if name == "logits":
        return BATCH, 1 if target == "tensorrt" else SEQUENCE, facts.vocab_size
    return {
        "attention_mask": (BATCH, TOTAL),
        "write_indices": (BATCH,),
        "last_index": (BATCH,),
    }.get(name, (BATCH, SEQUENCE))


@contextmanager
def _quietly() -> Iterator[None]:
    """Silence the exporter's warnings about missing packages and deprecations."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
