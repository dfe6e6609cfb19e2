"""Names, dtypes and constants of a graph in the making."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
import torch

from minimind_edge.export.graph.quantized_weights import BlockWriter
from minimind_edge.export.graph.writer import GraphWriter, Result, graph_input
from minimind_edge.export.quantization import QuantizedMatrix

FLOAT, FLOAT16, INT64, BOOL = ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.INT64, ir.DataType.BOOL


@pytest.fixture
def weight() -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.arange(6.0).reshape(2, 3))


@pytest.fixture
def writer(weight) -> GraphWriter:
    return GraphWriter({"model.layer.weight": weight}, FLOAT16)


@pytest.fixture
def x() -> ir.Value:
    return graph_input("x", FLOAT16, ("n", 3))


def numbers(value: ir.Value) -> np.ndarray:
    assert value.const_value is not None
    return value.const_value.numpy()


def test_names_are_paths(writer, x):
    outside = writer.op("Neg", x)
    with writer.scope("layers", 3):
        with writer.scope("mlp"):
            inside = writer.op("Neg", x)
            again = writer.op("Neg", x)
        behind = writer.op("Neg", x, name="layers.3.chosen")
    assert [value.name for value in (outside, inside, again, behind)] == [
        "Neg",
        "layers.3.mlp.Neg",
        "layers.3.mlp.Neg_2",
        "layers.3.chosen",
    ]
    assert behind.producer().name == "layers.3.Neg"


def test_an_output_has_the_first_operands_dtype_unless_told(writer, x):
    assert writer.op("Neg", x).dtype == FLOAT16
    assert writer.op("Cast", x, dtype=FLOAT, to=FLOAT.value).dtype == FLOAT
    values, places = writer.ops("TopK", x, [1], results=[Result(), Result("places", INT64, ("n", 1))])
    assert (values.dtype, places.dtype) == (FLOAT16, INT64)
    assert (values.name, places.name) == ("TopK.0", "places")
    assert places.shape == ir.Shape(["n", 1])


def test_integers_are_int64_and_floats_are_the_outputs(writer, x):
    mask = graph_input("mask", BOOL, ("n",))
    added = writer.op("Add", x, 0.5).producer()
    chosen = writer.op("Where", mask, 0.0, -2.0, dtype=FLOAT).producer()
    shaped = writer.op("Reshape", x, [0, -1]).producer()
    assert numbers(added.inputs[1]).dtype == np.float16
    assert [numbers(value).dtype for value in chosen.inputs[1:]] == [np.float32, np.float32]
    assert numbers(shaped.inputs[1]).tolist() == [0, -1]
    assert numbers(shaped.inputs[1]).dtype == np.int64


def test_equal_constants_are_one(writer, x):
    first, second = writer.op("Reshape", x, [0, -1]), writer.op("Reshape", x, [0, -1])
    assert first.producer().inputs[1] is second.producer().inputs[1]
    scalar, vector = writer.op("Gather", x, 0), writer.op("Gather", x, [0])
    assert scalar.producer().inputs[1] is not vector.producer().inputs[1]


def test_a_cast_to_the_same_dtype_is_no_node(writer, x):
    assert writer.cast(x, FLOAT16) is x
    assert writer.cast(x, FLOAT).producer().op_type == "Cast"


def test_optional_inputs_can_be_left_out(writer, x):
    assert writer.op("Clip", x, None, 3.0).producer().inputs[1] is None


def test_a_weight_is_stored_once_for_each_form(writer, weight):
    plain, turned = writer.weight(weight), writer.weight(weight, transposed=True)
    assert writer.weight(weight) is plain
    assert (plain.name, turned.name) == ("model.layer.weight", "model.layer.weight.T")
    assert turned.shape == ir.Shape([3, 2])
    assert numbers(plain).dtype == np.float16
    assert numbers(turned).tolist() == [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]
    assert numbers(writer.weight(weight, transposed=True, dtype=FLOAT)).dtype == np.float32


def test_a_folded_factor_is_in_every_form_of_a_weight(writer, weight):
    other = torch.nn.Parameter(torch.full((1, 3), 8.0))
    writer = GraphWriter({"model.layer.weight": weight, "model.other.weight": other}, FLOAT)
    writer.fold(0.5, weight)
    assert numbers(writer.weight(weight)).tolist() == [[0.0, 0.5, 1.0], [1.5, 2.0, 2.5]]
    assert numbers(writer.weight(weight, transposed=True)).tolist() == [[0.0, 1.5], [0.5, 2.0], [1.0, 2.5]]
    assert numbers(writer.packed([weight, other])).tolist() == [[0.0, 1.5, 8.0], [0.5, 2.0, 8.0], [1.0, 2.5, 8.0]]
    assert weight[1, 2] == 5.0


@pytest.mark.parametrize(("factor", "dtype"), [(1.0, np.float16), (0.5, np.float16), (1 / np.sqrt(96), np.float32)])
def test_a_folded_factor_is_in_the_scales_to_the_last_bit(weight, factor, dtype):
    scales = np.array([[0.25], [0.75]], np.float32)
    matrix = QuantizedMatrix(4, 16, np.arange(6, dtype=np.uint8).reshape(2, 3), scales)
    writer = BlockWriter({"model.layer.weight": weight}, FLOAT, {"model.layer.weight": matrix})
    writer.fold(factor, weight)
    product = writer.product(graph_input("x", FLOAT, ("n", 3)), weight).producer()
    stored = product.inputs[2] if dtype == np.float32 else product.inputs[2].producer().inputs[0]
    assert numbers(stored).dtype == dtype
    assert (numbers(stored) == scales * np.float32(factor)).all()
    assert (numbers(product.inputs[1]).reshape(2, -1)[:, :2] == [[0x10, 0x82], [0x43, 0x85]]).all()


def test_weights_are_read_when_they_are_asked_for(writer, weight):
    stored = writer.weight(weight)
    with torch.no_grad():
        weight[0, 0] = 9.0
    assert numbers(stored)[0, 0] == 9.0


def test_finish_names_the_domains(writer, x):
    y = writer.op("Gelu", x, domain="com.microsoft")
    graph = writer.finish("g", [x], [y], 21)
    assert graph.opset_imports == {"": 21, "com.microsoft": 1}
