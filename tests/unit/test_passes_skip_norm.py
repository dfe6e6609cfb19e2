"""The fusion of residual sum and norm, on graphs of three nodes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx_ir as ir
import pytest

from minimind_edge.export.graph.passes import FuseSkipNorm

FLOAT = ir.DataType.FLOAT
SHAPE = ["batch_size", "sequence_length", 4]
WEIGHT = np.array([1.0, 2.0, 0.5, -1.0], np.float32)
EPSILON = 0.25


def make(*, other: list[str | int] | None = None, axis: int = -1, uses: int = 1) -> ir.Model:
    """`y = RMSNormalization(Abs(a) + Neg(b))`, and `z` that reads the sum too; `uses` norms."""
    a, b = ir.val("a", FLOAT, SHAPE), ir.val("b", FLOAT, SHAPE if other is None else other)
    weight = ir.Value(name="weight", const_value=ir.tensor(WEIGHT, name="weight"))
    left, right = ir.node("Abs", [a], name="left"), ir.node("Neg", [b], name="right")
    total = ir.node("Add", [left.outputs[0], right.outputs[0]], name="layers.0.Add")
    norms = [
        ir.node(
            "RMSNormalization",
            [total.outputs[0], weight],
            {"axis": axis, "epsilon": EPSILON},
            name=f"norm{index}.RMSNormalization",
        )
        for index in range(uses)
    ]
    reader = ir.node("Identity", [total.outputs[0]], name="reader")
    for node, name, shape in (
        (left, "l", SHAPE),
        (right, "r", b.shape),
        (total, "sum", SHAPE),
        *((norm, f"y{index}", SHAPE) for index, norm in enumerate(norms)),
        (reader, "z", SHAPE),
    ):
        value = node.outputs[0]
        value.name, value.type = name, ir.TensorType(FLOAT)
        value.shape = None if shape is None else ir.Shape(shape)
    graph = ir.Graph(
        [a, b],
        [*(norm.outputs[0] for norm in norms), reader.outputs[0]],
        nodes=[left, right, total, *norms, reader],
        initializers=[weight],
        opset_imports={"": 23},
        name="g",
    )
    return ir.Model(graph, ir_version=11)


def operators(model: ir.Model) -> Counter[str]:
    return Counter(node.op_type for node in model.graph)


def test_sum_and_norm_become_one_node():
    model = make()
    result = FuseSkipNorm()(model)
    assert result.modified
    assert operators(model) == {"Abs": 1, "Neg": 1, "SkipSimplifiedLayerNormalization": 1, "Identity": 1}
    (fused,) = (node for node in model.graph if node.domain == "com.microsoft")
    assert fused.name == "norm0.SkipSimplifiedLayerNormalization"
    assert [value.name for value in fused.inputs] == ["l", "r", "weight"]
    assert [value.name for value in fused.outputs] == ["y0", "", "", "sum"]
    assert fused.outputs[3].shape == ir.Shape(SHAPE)
    assert fused.attributes["epsilon"].as_float() == EPSILON
    assert model.graph.opset_imports["com.microsoft"] == 1


def test_the_numbers_are_the_same():
    import onnxruntime

    rng = np.random.default_rng(0)
    feeds = {name: rng.standard_normal((2, 3, 4)).astype(np.float32) for name in "ab"}
    model = make()
    FuseSkipNorm()(model)
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    y, z = session.run(None, feeds)
    total = np.abs(feeds["a"]) - feeds["b"]
    expected = total / np.sqrt((total**2).mean(-1, keepdims=True) + EPSILON) * WEIGHT
    np.testing.assert_allclose(z, total, rtol=1e-6)
    np.testing.assert_allclose(y, expected, rtol=1e-5)


def test_of_two_norms_of_a_sum_one_is_fused():
    model = make(uses=2)
    assert FuseSkipNorm()(model).modified
    assert operators(model)["SkipSimplifiedLayerNormalization"] == 1
    assert operators(model)["RMSNormalization"] == 1


@pytest.mark.parametrize(
    "arguments", [{"other": [4]}, {"other": ["batch_size", 1, 4]}, {"axis": 1}], ids=["vector", "broadcast", "axis"]
)
def test_other_sums_stay(arguments):
    model = make(**arguments)
    before = operators(model)
    assert not FuseSkipNorm()(model).modified
    assert operators(model) == before


def test_unknown_shapes_stay():
    model = make()
    model.graph.node(2).outputs[0].shape = None
    assert not FuseSkipNorm()(model).modified


def test_a_second_run_changes_nothing():
    model = make()
    FuseSkipNorm()(model)
    assert not FuseSkipNorm()(model).modified
