"""A graph that never comes to its end: a decoder whose logits go through an endless loop."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, helper

FOREVER = 2**63 - 1


def make_endless(source: Path, target: Path) -> Path:
    """Write a copy of a decoder's graph whose last node is a `Loop` of 2**63 - 1 rounds.

    Args:
        source: The decoder, an `.onnx` file with its weights inside.
        target: The new file.
    """
    model = onnx.load(source)
    graph = model.graph
    for node in graph.node:
        for index, name in enumerate(node.output):
            if name == "logits":
                node.output[index] = "finite_logits"
    graph.initializer.append(helper.make_tensor("rounds", TensorProto.INT64, [], [FOREVER]))
    graph.initializer.append(helper.make_tensor("go_on", TensorProto.BOOL, [], [True]))
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["condition"], ["next_condition"]),
            helper.make_node("Neg", ["value"], ["next_value"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("condition", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("next_condition", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next_value", TensorProto.FLOAT, None),
        ],
    )
    graph.node.append(helper.make_node("Loop", ["rounds", "go_on", "finite_logits"], ["logits"], body=body))
    onnx.save(model, target)
    return target
