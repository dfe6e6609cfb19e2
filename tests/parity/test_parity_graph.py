"""The comparison by onnxruntime: a graph of the model passes, one changed number in its file does not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from graph_files import changed_graph, write_graph
from onnx import numpy_helper

from minimind_edge.export.errors import ExportError
from minimind_edge.export.parity import compare
from minimind_edge.minimind import MiniMindConfig, MiniMindForCausalLM

Exported = tuple[MiniMindForCausalLM, Path, str]

MAX_LENGTH = 40
TINY = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 97,
    "intermediate_size": 48,
    "max_position_embeddings": MAX_LENGTH,
}


@pytest.fixture(scope="module", params=["dense portable", "dense ort", "moe portable", "moe ort"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    kind, target = request.param.split()
    torch.manual_seed(5)
    model = MiniMindForCausalLM(MiniMindConfig(**TINY, use_moe=kind == "moe")).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.normal_(std=0.2)
    return model, write_graph(tmp_path_factory.mktemp(kind), model, target, max_length=MAX_LENGTH), target


def test_a_faithful_graph_passes(exported: Exported) -> None:
    model, path, target = exported
    stages: list[tuple[str, float]] = []
    report = compare(
        model, path, target=target, precision="fp32", steps=12, progress=lambda *stage: stages.append(stage)
    )
    assert report, report.failures
    assert report.greedy == (12, 12)
    buffer = {"graph, one buffer"} if target == "ort" else set()
    assert {one.runner for one in report.measurements} == {"graph", "session"} | buffer
    assert (report.experts[1] > 0) == model.config.use_moe
    shares = [share for _, share in stages]
    assert shares == sorted(shares)
    assert shares[0] == 0.0
    assert shares[-1] < 1.0


def test_one_number_of_the_file_fails_and_names_its_layer(exported: Exported, tmp_path: Path) -> None:
    model, path, target = exported
    attention = model.model.layers[1].self_attn
    key = attention.k_proj.weight.detach().numpy().T
    first = attention.q_proj.out_features if target == "ort" else 0  # queries, keys and values are one weight there

    def change(graph: onnx.ModelProto) -> None:
        for tensor in graph.graph.initializer:
            array = numpy_helper.to_array(tensor)
            if array.ndim == 2 and np.array_equal(array[:, first : first + key.shape[1]], key):
                array = array.copy()
                array[2, first + 3] += 0.5
                tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
                return
        raise AssertionError("the key projection is not in the graph")

    report = compare(model, changed_graph(path, tmp_path, change), target=target, precision="fp32", steps=4)
    assert not report
    assert report.to_json()["first_departing_layer"] == 1
    assert any("layer 1, keys only" in line for line in report.failures)
    assert json.loads(json.dumps(report.to_json(), allow_nan=False)) == report.to_json()


def test_weights_beside_the_graph_are_found(exported: Exported, tmp_path: Path) -> None:
    model, path, target = exported
    external = tmp_path / "model.onnx"
    onnx.save(onnx.load(path), external, save_as_external_data=True, location="model.onnx_data", size_threshold=256)
    assert compare(model, external, target=target, precision="fp32", steps=2)


def test_a_graph_that_does_not_run_fails(exported: Exported, tmp_path: Path) -> None:
    model, path, target = exported

    def change(graph: onnx.ModelProto) -> None:
        """Have all that reads the token ids read them through a shape that holds a single one."""
        graph.graph.initializer.append(numpy_helper.from_array(np.array([1, 1]), "one_by_one"))
        graph.graph.node.insert(0, onnx.helper.make_node("Reshape", ["input_ids", "one_by_one"], ["only_one"]))
        for node in graph.graph.node[1:]:
            for place, name in enumerate(node.input):
                if name == "input_ids":
                    node.input[place] = "only_one"

    report = compare(model, changed_graph(path, tmp_path, change), target=target, precision="fp32", steps=2)
    assert not report
    assert any("could not be compared (graph)" in line and "the graph failed" in line for line in report.failures)


def test_another_target_or_model_is_refused(exported: Exported) -> None:
    model, path, target = exported
    with pytest.raises(ExportError, match="target"):
        compare(model, path, target="ort" if target == "portable" else "portable", precision="fp32")
    other = MiniMindForCausalLM(MiniMindConfig(**(TINY | {"vocab_size": 98}))).eval()
    with pytest.raises(ExportError, match="vocab_size is 97, expected 98"):
        compare(other, path, target=target, precision="fp32")
    with pytest.raises(ExportError, match="precision is fp32, expected fp16"):
        compare(model, path, target=target, precision="fp16")
    with pytest.raises(ExportError, match="tensorrt"):
        compare(model, path, target="tensorrt", precision="fp32")


def test_what_is_no_graph_is_refused(exported: Exported, tmp_path: Path) -> None:
    model, _, target = exported
    (tmp_path / "text.onnx").write_text("no graph")
    for path in (tmp_path / "text.onnx", tmp_path / "missing.onnx"):
        with pytest.raises(ExportError, match="onnxruntime cannot load"):
            compare(model, path, target=target, precision="fp32")
