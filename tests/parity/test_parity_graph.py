"""The comparison by onnxruntime: a plain export of the model passes, one changed number in its file does not."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from minimind_edge.export.errors import ExportError
from minimind_edge.export.parity import compare
from minimind_edge.minimind import MiniMindConfig, MiniMindForCausalLM

LAYERS = 2
MAX_LENGTH = 40
TINY = {
    "hidden_size": 32,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 97,
    "intermediate_size": 48,
    "max_position_embeddings": MAX_LENGTH,
}


class Flat(torch.nn.Module):
    """The model with the cache as flat arguments and results."""

    def __init__(self, model: MiniMindForCausalLM) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask, position_ids, past):
        pairs = list(zip(past[::2], past[1::2], strict=True))
        output = self.model(input_ids, attention_mask, position_ids, pairs, use_cache=True)
        return output.logits, *(tensor for pair in output.past_key_values for tensor in pair)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def names(prefix: str) -> list[str]:
    return [f"{prefix}.{layer}.{part}" for layer in range(LAYERS) for part in ("key", "value")]


@pytest.fixture(scope="module", params=["dense", "moe"])
def exported(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[MiniMindForCausalLM, Path]:
    """A model and its graph with the contract's names, made by PyTorch's exporter alone."""
    torch.manual_seed(5)
    model = MiniMindForCausalLM(MiniMindConfig(**TINY, use_moe=request.param == "moe")).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.normal_(std=0.2)
    ids = torch.ones(2, 3, dtype=torch.int64)
    past = [torch.zeros(2, 2, 4, 8) for _ in range(2 * LAYERS)]
    free = torch.export.Dim.DYNAMIC
    shape = {0: free, 1: free}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        program = torch.onnx.export(
            Flat(model).eval(),
            (ids, torch.ones(2, 7, dtype=torch.int64), ids.clone(), past),
            dynamo=True,
            verbose=False,
            input_names=["input_ids", "attention_mask", "position_ids", *names("past_key_values")],
            output_names=["logits", *names("present")],
            dynamic_shapes=(shape, shape, shape, [{0: free, 2: free}] * len(past)),
        )
    path = tmp_path_factory.mktemp(request.param) / "model.onnx"
    onnx.save(with_metadata(program.model_proto), path)
    return model, path


def with_metadata(graph: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with what the contract asks beyond its arithmetic."""
    onnx.helper.set_model_props(
        graph, {"minimind_edge.target": "portable", "minimind_edge.max_length": str(MAX_LENGTH)}
    )
    for layer, node in enumerate(node for node in graph.graph.node if node.op_type == "TopK"):
        old, new = node.output[1], f"layers.{layer}.moe.topk_indices"
        for user in graph.graph.node:
            for place, name in enumerate(user.input):
                if name == old:
                    user.input[place] = new
        node.output[1] = new
    return graph


def changed(path: Path, folder: Path, change: Callable[[onnx.ModelProto], None]) -> Path:
    graph = onnx.load(path)
    change(graph)
    onnx.save(graph, folder / "changed.onnx")
    return folder / "changed.onnx"


def test_a_faithful_graph_passes(exported: tuple[MiniMindForCausalLM, Path]) -> None:
    model, path = exported
    stages: list[tuple[str, float]] = []
    report = compare(
        model, path, target="portable", precision="fp32", steps=12, progress=lambda *stage: stages.append(stage)
    )
    assert report, report.failures
    assert report.greedy == (12, 12)
    assert {one.runner for one in report.measurements} == {"graph", "session"}
    assert (report.experts[1] > 0) == model.config.use_moe
    shares = [share for _, share in stages]
    assert shares == sorted(shares)
    assert shares[0] == 0.0
    assert shares[-1] < 1.0


def test_one_number_of_the_file_fails_and_names_its_layer(
    exported: tuple[MiniMindForCausalLM, Path], tmp_path: Path
) -> None:
    model, path = exported
    key = model.model.layers[1].self_attn.k_proj.weight.detach().numpy()

    def change(graph: onnx.ModelProto) -> None:
        for tensor in graph.graph.initializer:
            array = numpy_helper.to_array(tensor)
            if np.array_equal(array, key) or np.array_equal(array, key.T):
                array = array.copy()
                array[3, 2] += 0.5
                tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
                return
        raise AssertionError("the key projection is not in the graph")

    report = compare(model, changed(path, tmp_path, change), target="portable", precision="fp32", steps=4)
    assert not report
    assert report.to_json()["first_departing_layer"] == 1
    assert any("layer 1, keys only" in line for line in report.failures)
    assert json.loads(json.dumps(report.to_json(), allow_nan=False)) == report.to_json()


def test_weights_beside_the_graph_are_found(exported: tuple[MiniMindForCausalLM, Path], tmp_path: Path) -> None:
    model, path = exported
    beside = tmp_path / "model.onnx"
    onnx.save(onnx.load(path), beside, save_as_external_data=True, location="model.onnx_data", size_threshold=256)
    assert compare(model, beside, target="portable", precision="fp32", steps=2)


def test_a_graph_that_does_not_run_fails(exported: tuple[MiniMindForCausalLM, Path], tmp_path: Path) -> None:
    model, path = exported

    def change(graph: onnx.ModelProto) -> None:
        """Have all that reads the token ids read them through a shape that holds a single one."""
        graph.graph.initializer.append(numpy_helper.from_array(np.array([1, 1]), "one_by_one"))
        graph.graph.node.insert(0, onnx.helper.make_node("Reshape", ["input_ids", "one_by_one"], ["only_one"]))
        for node in graph.graph.node[1:]:
            for place, name in enumerate(node.input):
                if name == "input_ids":
                    node.input[place] = "only_one"

    report = compare(model, changed(path, tmp_path, change), target="portable", precision="fp32", steps=2)
    assert not report
    assert any("could not be compared (graph)" in line and "onnxruntime" in line for line in report.failures)


def test_another_target_or_model_is_refused(exported: tuple[MiniMindForCausalLM, Path]) -> None:
    model, path = exported
    with pytest.raises(ExportError, match="target"):
        compare(model, path, target="ort", precision="fp32")
    other = MiniMindForCausalLM(MiniMindConfig(**(TINY | {"vocab_size": 98}))).eval()
    with pytest.raises(ExportError, match="vocab_size is 97, expected 98"):
        compare(other, path, target="portable", precision="fp32")
    with pytest.raises(ExportError, match="tensorrt"):
        compare(model, path, target="tensorrt", precision="fp32")


def test_what_is_no_graph_is_refused(exported: tuple[MiniMindForCausalLM, Path], tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no graph")
    for path in (tmp_path / "text.onnx", tmp_path / "missing.onnx"):
        with pytest.raises(ExportError, match="onnxruntime cannot load"):
            compare(exported[0], path, target="portable", precision="fp32")
