"""What `inspect` says of hand-made graphs and folders, of a checkpoint, and of what is broken."""

from __future__ import annotations

import json

import onnx
import pytest
import torch
from onnx import TensorProto, helper

from minimind_edge.export.artifact.architecture import describe_architecture
from minimind_edge.export.inspection import inspect_path
from minimind_edge.minimind import MiniMindConfig, MiniMindForCausalLM
from minimind_edge.minimind.errors import CheckpointError
from minimind_edge.runtime.errors import ArtifactError

METADATA = {
    "minimind_edge.target": "portable",
    "minimind_edge.precision": "fp16",
    "minimind_edge.generation": "minimind3",
}


def make_graph(path, metadata=METADATA, external=None):
    """Two layers of a cache of 3 heads of 8 in float16, a weight of 5 x 4, an If with a node in each branch."""
    caches = [
        helper.make_tensor_value_info(f"past_key_values.{layer}.{part}", TensorProto.FLOAT16, ["batch", 3, "past", 8])
        for layer in range(2)
        for part in ("key", "value")
    ]
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "sequence"])
    flag = helper.make_tensor_value_info("flag", TensorProto.BOOL, [1])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT16, None)
    branches = [
        helper.make_graph([helper.make_node("Identity", ["weight"], [name])], name, [], [branch_output(name)])
        for name in ("yes", "no")
    ]
    nodes = [
        helper.make_node("Gather", ["weight", "input_ids"], ["a"]),
        helper.make_node("SimplifiedLayerNormalization", ["a", "weight"], ["b"], domain="com.microsoft"),
        helper.make_node("If", ["flag"], ["c"], then_branch=branches[0], else_branch=branches[1]),
        helper.make_node("Identity", ["b"], ["logits"]),
    ]
    weight = helper.make_tensor("weight", TensorProto.FLOAT16, [5, 4], [0.5] * 20)
    if external:
        weight = TensorProto(name="weight", data_type=TensorProto.FLOAT16, dims=[5, 4], data_location=1)
        weight.external_data.add(key="location", value=external)
    model = helper.make_model(
        helper.make_graph(nodes, "model", [ids, flag, *caches], [logits], [weight]),
        opset_imports=[helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)],
        producer_name="tests",
    )
    helper.set_model_props(model, metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return path


def branch_output(name):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT16, [5, 4])


def text_of(inspection):
    return "\n".join(inspection.lines())


def assert_one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


def test_graph(tmp_path):
    path = make_graph(tmp_path / "bare.onnx")
    found = inspect_path(path).to_json()
    assert json.loads(json.dumps(found)) == found
    assert found["kind"] == "graph"
    assert found["bytes"] == path.stat().st_size
    assert (found["target"], found["precision"], found["generation"]) == ("portable", "fp16", "minimind3")
    assert found["opsets"] == {"ai.onnx": 21, "com.microsoft": 1}
    assert found["operators"] == {
        "ai.onnx": {"Identity": 3, "Gather": 1, "If": 1},
        "com.microsoft": {"SimplifiedLayerNormalization": 1},
    }
    assert found["inputs"][0] == {"name": "input_ids", "dtype": "int64", "shape": ["batch", "sequence"]}
    assert found["inputs"][2]["shape"] == ["batch", 3, "past", 8]
    assert found["outputs"] == [{"name": "logits", "dtype": "float16", "shape": []}]
    assert found["weights"] == {"float16": 20}
    assert found["kv_bytes_per_token"] == 2 * 2 * 3 * 8 * 2  # key and value, layers, heads, width, bytes
    assert found["producer"] == "tests"


def test_graph_for_people(tmp_path):
    text = text_of(inspect_path(make_graph(tmp_path / "bare.onnx")))
    for words in (
        "192 bytes per token",
        "ai.onnx 21",
        "int64 [batch, sequence]",
        "operators of com.microsoft (1 nodes)",
    ):
        assert words in text


def test_graph_without_metadata_tells_its_precision_by_its_weights(tmp_path):
    assert inspect_path(make_graph(tmp_path / "bare.onnx", metadata={})).to_json()["precision"] == "fp16"


def test_external_weights_are_counted_but_not_read(tmp_path):
    path = make_graph(tmp_path / "big.onnx", external="big.onnx_data")
    missing = inspect_path(path).to_json()
    assert missing["missing_files"] == ["big.onnx_data"]
    assert missing["weights"] == {"float16": 20}
    (tmp_path / "big.onnx_data").write_bytes(b"\0" * 7)  # too short: reading it would fail
    found = inspect_path(path).to_json()
    assert found["missing_files"] == []
    assert found["bytes"] == path.stat().st_size + 7


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "..\\secret"])
def test_external_weights_outside_the_folder_are_refused(tmp_path, location):
    with pytest.raises(ArtifactError) as error:
        inspect_path(make_graph(tmp_path / "bad.onnx", external=location))
    assert "leads out" in assert_one_line(error)


@pytest.mark.parametrize(
    "content",
    [b"", b"hello, I am a text file\n" * 20, b"\x08\x09", bytes(range(256)), b"{}"],
    ids=["empty", "text", "stub", "noise", "json"],
)
def test_broken_graph(tmp_path, content):
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    with pytest.raises(ArtifactError) as error:
        inspect_path(path)
    assert str(path) in assert_one_line(error)
    assert error.value.exit_code == 3


def test_truncated_graph(tmp_path):
    path = make_graph(tmp_path / "cut.onnx")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ArtifactError):
        inspect_path(path)


def test_missing_paths(tmp_path):
    with pytest.raises(ArtifactError, match="cannot read"):
        inspect_path(tmp_path / "none.onnx")
    with pytest.raises(CheckpointError):
        inspect_path(tmp_path / "none.pth")


@pytest.fixture
def tiny_checkpoint(random_model, tmp_path):
    config = MiniMindConfig(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=8, vocab_size=128, use_moe=True, n_shared_experts=2
    )
    path = tmp_path / "full_sft_64_moe.pth"
    torch.save(random_model(config).half().state_dict(), path)
    return path, config


def test_checkpoint(tiny_checkpoint):
    path, config = tiny_checkpoint
    found = inspect_path(path).to_json()
    assert json.loads(json.dumps(found)) == found
    assert found["kind"] == "checkpoint"
    assert found["generation"] == "minimind2"
    assert found["bytes"] == path.stat().st_size
    assert found["architecture"]["parameters"] == describe_architecture(config)["parameters"]
    assert found["architecture"]["parameters"]["active"] < found["architecture"]["parameters"]["total"]
    assert found["kv_bytes_per_token"] == {"float32": 2 * 2 * 2 * 8 * 4, "float16": 2 * 2 * 2 * 8 * 2}
    assert found["assumed"]["num_attention_heads"] == 8
    assert found["inferred"]["n_routed_experts"] == 4
    assert found["tokenizer"] is None


def test_checkpoint_for_people(tiny_checkpoint):
    path, config = tiny_checkpoint
    text = text_of(inspect_path(path))
    total = sum(parameter.numel() for parameter in MiniMindForCausalLM(config).parameters())
    assert f"{total:,}" in text
    assert "256 bytes per token" in text
    assert "assumed" in text
    assert "none next to the checkpoint" in text


def test_the_tokenizer_of_upstreams_layout_is_the_one_that_an_export_takes(tiny_checkpoint, tmp_path):
    """Upstream keeps weights in `out/` and the tokenizer in `model/`."""
    path, _ = tiny_checkpoint
    (tmp_path / "out").mkdir()
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "tokenizer.json").write_text("{}")
    found = inspect_path(path.rename(tmp_path / "out" / path.name)).to_json()
    assert found["tokenizer"] == str(tmp_path / "model")


def test_hugging_face_folder_is_a_checkpoint(random_model, tmp_path):
    config = MiniMindConfig(hidden_size=64, num_hidden_layers=1, num_attention_heads=4, vocab_size=128)
    random_model(config).save_pretrained(tmp_path)
    found = inspect_path(tmp_path).to_json()
    assert found["kind"] == "checkpoint"
    assert found["architecture"]["num_attention_heads"] == 4


PARITY = {"passed": True, "logits": {"max_abs": 1e-5, "mean_kl": 1e-9}, "greedy": {"equal": 200, "total": 200}}


def write_manifest(folder, **entries):
    manifest = {
        "format": 1,
        "tool": {"name": "minimind-edge", "version": "0.1.0"},
        "checkpoint": {"file": "full_sft_512.pth", "sha256": "ab" * 32, "generation": "minimind3"},
        "architecture": describe_architecture(MiniMindConfig.minimind3(use_moe=True)),
        "graphs": [{"file": "onnx/model.onnx", "target": "portable", "precision": "fp16", "parity": PARITY}],
        "default_graph": "onnx/model.onnx",
        "versions": {"onnx": "1.20"},
    }
    folder.mkdir(exist_ok=True)
    (folder / "manifest.json").write_text(json.dumps(manifest | entries))


ENTRY = {"file": "onnx/model.onnx", "target": "portable", "precision": "fp16"}


def test_artifact(tmp_path):
    write_manifest(tmp_path)
    graph = make_graph(tmp_path / "onnx/model.onnx")
    inspection = inspect_path(tmp_path)
    found = inspection.to_json()
    assert json.loads(json.dumps(found)) == found
    assert found["kind"] == "artifact"
    assert found["generation"] == "minimind3"
    assert found["bytes"] == graph.stat().st_size + (tmp_path / "manifest.json").stat().st_size
    assert set(found["files"]) == {"manifest.json", "onnx/model.onnx"}
    assert found["graphs"][0]["parity"] == PARITY
    assert found["graphs"][0]["kv_bytes_per_token"] == 192
    text = text_of(inspection)
    assert "passed: logits max abs 1.00e-05, mean KL 1.00e-09 nats, greedy 200/200" in text
    assert "parameters active" in text


def test_artifact_that_was_not_verified(tmp_path):
    write_manifest(tmp_path, graphs=[ENTRY | {"parity": None}])
    make_graph(tmp_path / "onnx/model.onnx")
    assert "not verified" in text_of(inspect_path(tmp_path))


def test_an_architecture_that_tells_only_some_sizes(tmp_path):
    parts = {"parameters": {"total": None, "active": 5}, "moe": {"n_routed_experts": None}, "rope": {"theta": None}}
    write_manifest(tmp_path, graphs=[ENTRY], architecture={"hidden_size": 64, **parts})
    make_graph(tmp_path / "onnx" / "model.onnx")
    text = text_of(inspect_path(tmp_path))
    assert "parameters active  5" in text
    assert "parameters total" not in text
    assert "None" not in text.partition("onnx/model.onnx")[0].partition("architecture")[2]


def test_a_graph_with_a_name_that_is_not_utf8(tmp_path):
    path = tmp_path / "model.onnx"
    make_graph(path)
    path.write_bytes(path.read_bytes().replace(b"minimind_edge.target", b"minimind_edge\xfftarget", 1))
    with pytest.raises(ArtifactError, match=r"model\.onnx has a key that is not UTF-8"):
        inspect_path(path)


def test_folder_of_graphs_without_a_manifest(tmp_path):
    make_graph(tmp_path / "onnx/model.onnx")
    (tmp_path / "config.json").write_text("{}")
    found = inspect_path(tmp_path).to_json()
    assert found["kind"] == "artifact"
    assert found["architecture"] is None
    assert [graph["file"] for graph in found["graphs"]] == ["onnx/model.onnx"]


@pytest.mark.parametrize(
    "entries",
    [
        {"graphs": [ENTRY | {"file": "../model.onnx"}], "default_graph": None},
        {"graphs": [ENTRY | {"file": "onnx/gone.onnx"}], "default_graph": None},
        {"graphs": "model.onnx"},
        {"graphs": [{"parity": None}]},
        {"architecture": 5},
    ],
    ids=["outside", "gone", "no list", "no file", "no object"],
)
def test_broken_manifest(tmp_path, entries):
    make_graph(tmp_path / "model.onnx")
    write_manifest(tmp_path / "folder", **entries)
    with pytest.raises(ArtifactError) as error:
        inspect_path(tmp_path / "folder").to_json()
    assert_one_line(error)


def test_manifest_that_is_no_json(tmp_path):
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ArtifactError, match="not valid JSON"):
        inspect_path(tmp_path)


def test_graphs_are_what_onnx_takes(tmp_path):
    """The hand-made graph is a graph, so that these tests are about real ones."""
    assert onnx.load(make_graph(tmp_path / "bare.onnx")).graph.name == "model"
