"""Optional inputs: constants in a graph's file, which are inputs of the graph that the runtime loads."""

from __future__ import annotations

import itertools
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from minimind_edge.runtime.errors import ArtifactError
from minimind_edge.runtime.load import load_session
from minimind_edge.runtime.ort.graph_parts import WEIGHT_ALIGNMENT
from minimind_edge.runtime.ort.in_memory import graph_in_memory
from minimind_edge.runtime.ort.loading import open_graph
from minimind_edge.runtime.session.contract import OPTIONAL_INPUTS

DECLARED = {"target": "ort", "optional_inputs": "logits_start"}
IDS = np.arange(9)[None]


def starts_late(model: onnx.ModelProto) -> None:
    """Slice the logits from a constant `logits_start` on, as exported graphs do."""
    graph = model.graph
    for name, number in {"logits_start": 0, "end": 1 << 62, "second_axis": 1}.items():
        graph.initializer.append(numpy_helper.from_array(np.array([number], np.int64), name))
    head = graph.node[-1]
    slicing = helper.make_node("Slice", [head.input[0], "logits_start", "end", "second_axis"], ["wanted"])
    head.input[0] = "wanted"
    graph.node.insert(len(graph.node) - 1, slicing)
    graph.output[0].type.tensor_type.shape.dim[1].dim_param = "wanted"


def aligned(model: onnx.ModelProto, path: Path) -> Path:
    """Write a graph whose large weights can be mapped, as exported ones can, by onnx and by trial."""
    model.graph.initializer.insert(0, numpy_helper.from_array(np.zeros(1, np.float32), "padding"))
    tensors = model.graph.initializer
    for before, tensor in itertools.pairwise(tensors):
        for _ in range(2 * WEIGHT_ALIGNMENT):  # onnx writes it after the numbers, so it moves the next tensor
            if len(tensor.raw_data) < 1024 or model.SerializeToString().index(tensor.raw_data) % WEIGHT_ALIGNMENT == 0:
                break
            before.doc_string += " "
        else:
            raise AssertionError("not aligned")
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def declared(save_graph):
    """A graph that declares `logits_start`; its weights are not aligned."""
    return save_graph("ort", change=starts_late, **DECLARED)


def refusal(path: Path) -> str:
    with pytest.raises(ArtifactError) as caught:
        load_session(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_graph_in_memory_is_the_file_with_more_inputs(save_graph):
    path = save_graph("ort", change=starts_late, target="ort", optional_inputs="row_tokens,logits_start,row_lengths")

    def defaults(model: onnx.ModelProto) -> None:
        for name in ("row_lengths", "row_tokens"):
            model.graph.initializer.append(numpy_helper.from_array(np.array([7], np.int32), name))

    expected = onnx.load(path)
    defaults(expected)
    path.write_bytes(expected.SerializeToString())
    for name in ("row_tokens", "logits_start", "row_lengths"):
        kind, axis = {"int32": TensorProto.INT32, "int64": TensorProto.INT64}, OPTIONAL_INPUTS[name][1]
        expected.graph.input.append(helper.make_tensor_value_info(name, kind[OPTIONAL_INPUTS[name][0]], [axis]))
    graph = graph_in_memory(path)
    assert onnx.load_from_string(graph.message) == expected  # nothing is aligned, so every weight is in it


def test_aligned_weights_are_those_of_the_file_by_onnx_own_reader(declared, tmp_path):
    path = aligned(onnx.load(declared), tmp_path / "aligned.onnx")
    graph = graph_in_memory(path)
    model = onnx.load_from_string(graph.message)
    places = [tensor.external_data for tensor in model.graph.initializer if tensor.external_data]
    assert {entry.value for place in places for entry in place if entry.key == "location"} == {"aligned.onnx"}
    assert len(places) == sum(len(tensor.raw_data) >= 1024 for tensor in onnx.load(path).graph.initializer) > 5
    assert len(graph.message) < path.stat().st_size / 5
    onnx.load_external_data_for_model(model, str(graph.folder))
    for found, expected in zip(model.graph.initializer, onnx.load(path).graph.initializer, strict=True):
        assert found.name == expected.name
        assert np.array_equal(numpy_helper.to_array(found), numpy_helper.to_array(expected))


def test_weights_are_mapped_and_the_logits_are_those_of_one_pass(declared, tmp_path, decoder):
    path = aligned(onnx.load(declared), tmp_path / "aligned.onnx")
    bound = []
    session = load_session(path, threads=1)
    take = session._model.arrays
    session._model.arrays = lambda *args: bound.append(take(*args)) or bound[-1]
    assert np.allclose(session.prefill(IDS), decoder.logits(IDS)[:, -1], atol=1e-3)
    assert [arrays.logits.shape for arrays in bound] == [(1, 1, 32)]
    if sys.platform == "linux":
        assert str(path) in Path("/proc/self/maps").read_text()


def test_an_older_graph_and_a_plain_one_are_loaded_from_their_files(save_graph):
    def older(model: onnx.ModelProto) -> None:
        starts_late(model)
        model.graph.input.append(helper.make_tensor_value_info("logits_start", TensorProto.INT64, [1]))

    for path in (save_graph("ort", change=older, target="ort"), save_graph("portable", target="portable")):
        assert graph_in_memory(path) is None
    assert load_session(save_graph("ort", change=older, target="ort"), threads=1)._model._takes_start


def test_weights_in_another_file_are_found(declared, tmp_path, decoder):
    onnx.save(onnx.load(declared), tmp_path / "model.onnx", save_as_external_data=True, location="weights")
    assert np.allclose(load_session(tmp_path / "model.onnx").prefill(IDS), decoder.logits(IDS)[:, -1], atol=1e-3)
    (tmp_path / "weights").unlink()
    assert "lacks weights, which holds weights of model.onnx" in refusal(tmp_path / "model.onnx")


@pytest.mark.parametrize("split", [False, True], ids=["one file", "weights in a file of their own"])
def test_links_into_the_hubs_cache_are_followed(declared, tmp_path, decoder, split):
    blobs, folder = tmp_path / "models--a--b" / "blobs", tmp_path / "models--a--b" / "snapshots" / "0a1b" / "onnx"
    blobs.mkdir(parents=True)
    folder.mkdir(parents=True)
    if split:
        onnx.save(onnx.load(declared), tmp_path / "model.onnx", save_as_external_data=True, location="weights")
        shutil.move(tmp_path / "weights", blobs / "bb")
        (folder / "weights").symlink_to("../../../blobs/bb")
    else:
        aligned(onnx.load(declared), tmp_path / "model.onnx")
    shutil.move(tmp_path / "model.onnx", blobs / "aa")
    (folder / "model.onnx").symlink_to("../../../blobs/aa")
    session = load_session(folder / "model.onnx", threads=1)
    assert session._model._takes_start
    assert np.allclose(session.prefill(IDS), decoder.logits(IDS)[:, -1], atol=1e-3)


def without_default(model: onnx.ModelProto) -> None:
    starts_late(model)
    for tensor in model.graph.initializer:
        if tensor.name == "logits_start":
            tensor.name = "second_end"


def twice(model: onnx.ModelProto) -> None:
    starts_late(model)
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.int64), "logits_start"))


def input_too(model: onnx.ModelProto) -> None:
    starts_late(model)
    model.graph.input.append(helper.make_tensor_value_info("logits_start", TensorProto.INT64, [1]))


def computed(model: onnx.ModelProto) -> None:
    starts_late(model)
    model.graph.node.insert(0, helper.make_node("Identity", ["end"], ["logits_start"]))


def of_another_type(model: onnx.ModelProto) -> None:
    starts_late(model)
    for tensor in model.graph.initializer:
        if tensor.name == "logits_start":
            tensor.CopyFrom(numpy_helper.from_array(np.zeros(1, np.int32), tensor.name))


@pytest.mark.parametrize(
    ("change", "names", "part"),
    [
        (without_default, "logits_start", "'logits_start' has 0 defaults instead of one; export the graph again"),
        (twice, "logits_start", "'logits_start' has 2 defaults instead of one"),
        (input_too, "logits_start", "'logits_start' is an input already"),
        (starts_late, "temperature", "'temperature' is not known to this runtime"),
        (starts_late, "input_ids", "'input_ids' is not known to this runtime"),
        (starts_late, "logits_start,\n" + "x" * 5000, "xxx' is not known to this runtime"),
        (computed, "logits_start", "cannot load"),
        (of_another_type, "logits_start", "cannot load"),
    ],
)
def test_metadata_that_the_graph_contradicts(save_graph, capfd, change, names, part):
    assert part in refusal(save_graph("ort", change=change, target="ort", optional_inputs=names))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "link", "*/_ORT_MEM_ADDR_/*"])
def test_weights_outside_of_the_folder(declared, tmp_path, location):
    (tmp_path / "secret").write_bytes(bytes(1 << 16))
    folder = tmp_path / "artifact"
    folder.mkdir()
    (folder / "link").symlink_to("../secret")
    model = onnx.load(declared)
    weight = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=location)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    assert "not safe to use" in refusal(folder / "model.onnx")


@pytest.mark.parametrize("size", [0, 1, 100, 5000, -5000, -1])
def test_a_cut_file_is_refused(declared, capfd, size):
    declared.write_bytes(declared.read_bytes()[:size])
    assert "cannot load" in refusal(declared)
    assert capfd.readouterr() == ("", "")


def test_weights_that_do_not_fill_their_shape(declared, tmp_path, capfd):
    model = onnx.load(declared)
    max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data)).dims[0] += 1
    assert "cannot load" in refusal(aligned(model, tmp_path / "aligned.onnx"))
    assert capfd.readouterr() == ("", "")


def test_a_file_of_very_many_fields_is_left_to_onnxruntime(declared):
    unknown = b"\xf8\x3f\x00"  # field 1023 of ModelProto, the number 0
    declared.write_bytes(declared.read_bytes() + unknown * 300_000)
    assert graph_in_memory(declared) is None
    assert not load_session(declared, threads=1)._model._takes_start


def test_a_file_that_is_replaced_while_it_is_loaded(declared, tmp_path, monkeypatch):
    other = aligned(onnx.load(declared), tmp_path / "other.onnx")

    def replacing(path, **arguments):
        graph = graph_in_memory(path, **arguments)
        other.replace(path)
        return graph

    monkeypatch.setattr("minimind_edge.runtime.ort.loading.graph_in_memory", replacing)
    with pytest.raises(ArtifactError, match="was replaced while it was loaded"):
        open_graph(declared, "cpu", 1)
