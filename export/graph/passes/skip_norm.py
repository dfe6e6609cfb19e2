"""Residual sum and norm in one operator."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir import passes

from ..writer import MICROSOFT


class FuseSkipNorm(passes.InPlacePass):
    """Replaces `RMSNormalization(a + b)` by ONNX Runtime's `SkipSimplifiedLayerNormalization`.

    1. The norm runs over the last axis, and its weight is an initializer.
    2. `a` and `b` are computed, [B, S, H] like their sum, and known to be: the operator does not broadcast.
    3. Whatever else reads the sum reads the operator's fourth output instead.
    """

    def call(self, model: ir.Model) -> passes.PassResult:
        """See `onnx_ir.passes.InPlacePass.call`."""
        modified = False
        for node in tuple(model.graph):
            if node.op_type == "RMSNormalization" and _is_fusible(node):  # not before: a fusion may take another's sum
                _fuse(model.graph, node)
                modified = True
        if modified:
            model.graph.opset_imports.setdefault(MICROSOFT, 1)
        return passes.PassResult(model, modified=modified)


def _is_fusible(norm: ir.Node) -> bool:
    total, weight = norm.inputs
    assert total is not None
    assert weight is not None
    add = total.producer()
    if add is None or add.op_type != "Add" or not weight.is_initializer() or total.is_graph_output():
        return False
    axis = norm.attributes.get_int("axis", -1)
    return axis in {-1, 2} and all(_is_computed_alike(term, total) for term in add.inputs)


def _is_computed_alike(term: ir.Value | None, total: ir.Value) -> bool:
    assert term is not None
    return (
        term.producer() is not None and total.shape is not None and len(total.shape) == 3 and term.shape == total.shape
    )


def _fuse(graph: ir.Graph, norm: ir.Node) -> None:
    total, weight = norm.inputs
    assert total is not None
    add = total.producer()
    assert add is not None
    fused = ir.node(
        "SkipSimplifiedLayerNormalization",
        [*add.inputs, weight],
        {"epsilon": norm.attributes.get_float("epsilon", 1e-5)},
        domain=MICROSOFT,
        num_outputs=4,
        name=f"{(norm.name or '').removesuffix(norm.op_type)}SkipSimplifiedLayerNormalization",
    )
    normalized, mean, deviation, kept = fused.outputs
    mean.name = deviation.name = ""
    ir.convenience.replace_nodes_and_values(
        graph, add, [norm, add], [fused], [norm.outputs[0], total], [normalized, kept]
    )
