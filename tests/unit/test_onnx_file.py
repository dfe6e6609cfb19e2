"""The writer of graph files, against onnx's own reader."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from minimind_edge.export.graph.onnx_file import DATA_ALIGNMENT, save_graph
from minimind_edge.runtime.ort.graph_parts import WEIGHT_ALIGNMENT
from minimind_edge.runtime.ort.protobuf import varint

ROWS, COLUMNS = 40, 16


def weight(name: str, array: np.ndarray) -> ir.Value:
    tensor = ir.tensor(array, name=name)
    return ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape), const_value=tensor)


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "large": rng.standard_normal((ROWS, COLUMNS)).astype(np.float32),
        "half": rng.standard_normal((COLUMNS, ROWS)).astype(np.float16),
        "axes": np.array([-1], np.int64),
        "scalar": np.array(3.5, np.float32),
        "empty": np.zeros((0, 4), np.float32),
    }


@pytest.fixture
def model(arrays) -> ir.Model:
    x = ir.val("x", ir.DataType.FLOAT, ["n", ROWS])
    weights = [weight(name, array) for name, array in arrays.items()]
    node = ir.node("MatMul", [x, weights[0]], name="product")
    node.outputs[0].name = "y"
    node.outputs[0].type, node.outputs[0].shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape(["n", COLUMNS])
    graph = ir.Graph(
        [x],
        [node.outputs[0]],
        nodes=[node],
        initializers=weights,
        opset_imports={"": 21},
        name="g",
        doc_string="d",
    )
    return ir.Model(graph, ir_version=10, producer_name="p", metadata_props={"key": "value"})


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}


def assert_equal(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert set(found) == set(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        assert np.array_equal(found[name], array)
        assert found[name].shape == array.shape


@pytest.mark.parametrize(
    ("number", "expected"), [(0, "00"), (127, "7f"), (128, "8001"), (300, "ac02"), (1 << 35, "808080808001")]
)
def test_varint(number, expected):
    assert varint(number).hex() == expected


def test_one_file_holds_everything(model, arrays, tmp_path):
    assert save_graph(model, tmp_path / "deep" / "model.onnx") == (tmp_path / "deep" / "model.onnx",)
    read = onnx.load(tmp_path / "deep" / "model.onnx")
    onnx.checker.check_model(read, full_check=True)
    assert_equal(read_arrays(tmp_path / "deep" / "model.onnx"), arrays)
    assert (read.ir_version, read.producer_name, read.graph.doc_string) == (10, "p", "d")
    assert [(prop.key, prop.value) for prop in read.metadata_props] == [("key", "value")]
    assert [(opset.domain, opset.version) for opset in read.opset_import] == [("", 21)]
    assert read.graph.node[0].input == ["x", "large"]
    assert set(model.graph.initializers) == set(arrays)  # the graph in memory is as it was


def test_the_content_is_onnx_own(model, tmp_path):
    save_graph(model, tmp_path / "model.onnx")
    assert comparable(onnx.load(tmp_path / "model.onnx")) == comparable(ir.to_proto(model))


@pytest.mark.parametrize("doc_string", ["", "d" * 126])
def test_large_weights_can_be_mapped_where_they_lie(model, arrays, tmp_path, doc_string):
    model.doc_string = doc_string  # with two more characters, its length takes one more byte
    save_graph(model, tmp_path / "model.onnx")
    content = (tmp_path / "model.onnx").read_bytes()
    for name in ("large", "half"):
        assert content.index(arrays[name].tobytes()) % WEIGHT_ALIGNMENT == 0
    assert onnx.load(tmp_path / "model.onnx").doc_string.rstrip() == doc_string


def comparable(proto: onnx.ModelProto) -> bytes:
    """Without the shapes of weights, which weights tell themselves, and without the spaces that align their numbers."""
    weights = {tensor.name for tensor in proto.graph.initializer}
    for documented in (proto, *proto.graph.initializer):
        assert not documented.doc_string.strip()
        documented.doc_string = ""
    for value in [value for value in proto.graph.value_info if value.name in weights]:
        proto.graph.value_info.remove(value)
    return proto.SerializeToString(deterministic=True)


def test_past_the_limit_weights_lie_beside(model, arrays, tmp_path):
    files = save_graph(model, tmp_path / "model.onnx", inline_limit=100)
    assert [file.name for file in files] == ["model.onnx", "model.onnx_data"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "model.onnx_data"]
    assert_equal(read_arrays(tmp_path / "model.onnx"), arrays)
    bare = onnx.load(tmp_path / "model.onnx", load_external_data=False)
    outside = {
        tensor.name: {entry.key: entry.value for entry in tensor.external_data}
        for tensor in bare.graph.initializer
        if tensor.data_location == onnx.TensorProto.EXTERNAL
    }
    assert set(outside) == {"large", "half"}  # small ones stay, for shape inference
    assert all(int(place["offset"]) % DATA_ALIGNMENT == 0 for place in outside.values())
    assert files[0].stat().st_size < 1000


def test_onnxruntime_finds_the_weights_beside(model, arrays, tmp_path):
    import onnxruntime

    save_graph(model, tmp_path / "model.onnx", inline_limit=100)
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": np.eye(ROWS, dtype=np.float32)})
    assert np.array_equal(y, arrays["large"])


@pytest.mark.parametrize("inline_limit", [0, 1 << 30])
def test_a_failure_leaves_the_old_file(model, tmp_path, inline_limit):
    path = tmp_path / "model.onnx"
    save_graph(model, path)
    before = path.read_bytes()

    def fail() -> ir.TensorProtocol:
        raise OSError(28, "No space left on device")

    lazy = ir.LazyTensor(fail, ir.DataType.FLOAT, ir.Shape([1000]), name="half")
    model.graph.initializers["half"].const_value = lazy
    with pytest.raises(OSError, match="No space left"):
        save_graph(model, path, inline_limit)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_one_weight_is_in_memory_at_a_time(tmp_path):
    size, count = 1 << 20, 12

    def make(name: str) -> ir.Value:
        lazy = ir.LazyTensor(lambda: ir.tensor(np.ones(size, np.uint8)), ir.DataType.UINT8, ir.Shape([size]), name=name)
        return ir.Value(name=name, type=ir.TensorType(ir.DataType.UINT8), shape=ir.Shape([size]), const_value=lazy)

    graph = ir.Graph(
        [], [], nodes=[], initializers=[make(f"w{index}") for index in range(count)], opset_imports={"": 21}
    )
    tracemalloc.start()
    try:
        save_graph(ir.Model(graph, ir_version=10), tmp_path / "model.onnx")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (tmp_path / "model.onnx").stat().st_size > count * size
    assert peak < 3 * size
