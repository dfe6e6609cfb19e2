"""`--kv-cache int8`, from the export to the commands that run what it wrote."""

from __future__ import annotations

import json
import shutil

import onnx
import pytest


@pytest.fixture(scope="module")
def folder(tmp_path_factory, command):
    """The bundled demo, which is trained: a model of random weights does not bear such a cache."""
    folder = tmp_path_factory.mktemp("kv") / "demo"
    result = command("minimind-export", "onnx", "-o", folder, "--kv-cache", "int8", "--json")
    assert result.returncode == 0, result.stderr
    return folder


def test_the_artifact_says_what_it_is(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    (entry,) = manifest["graphs"]
    assert (entry["file"], entry["precision"], entry["kv_cache"]) == ("onnx/model_kv8.onnx", "fp32", "int8")
    assert manifest["default_graph"] == entry["file"]
    assert entry["loads_in"] == ["minimind-run", "onnxruntime-genai"]
    assert json.loads((folder / "genai_config.json").read_text())["model"]["decoder"]["filename"] == entry["file"]
    assert entry["parity"]["passed"] is True
    assert 0 < entry["quality"]["mean_kl"] < 0.001
    assert "bits_per_weight" not in entry["quality"]
    properties = {each.key: each.value for each in onnx.load(folder / entry["file"]).metadata_props}
    assert properties["minimind_edge.kv_cache"] == "int8"
    assert "| fp32, int8 cache |" in (folder / "README.md").read_text()


def test_every_command_takes_it(folder, command):
    verified = command("minimind-export", "verify", folder, "--json")
    assert verified.returncode == 0, verified.stderr
    assert json.loads(verified.stdout)["passed"] is True
    inspected = json.loads(command("minimind-export", "inspect", folder, "--json").stdout)
    assert inspected["graphs"][0]["kv_bytes_per_token"] == 4 * 2 * 2 * 32  # layers, key and value, heads, width
    told = command("minimind-run", "--engine", folder, "Who are you?", "-n", 20, "--greedy", "--json")
    assert told.returncode == 0, told.stderr
    assert len(json.loads(told.stdout)["text"]) > 10
    measured = command("minimind-bench", folder, "--prompt-tokens", 8, "--new-tokens", 4, "--runs", 1, "--json")
    artifact = json.loads(measured.stdout)["artifact"]
    assert (artifact["kv_cache"], artifact["kv_bytes_per_token"]) == ("int8", 512)


def test_verify_fails_where_a_scale_was_changed(folder, command, tmp_path):
    changed = tmp_path / "changed"
    shutil.copytree(folder, changed)
    graph = onnx.load(changed / "onnx/model_kv8.onnx")
    for tensor in graph.graph.initializer:
        if tensor.name.endswith("k_scale"):
            numbers = onnx.numpy_helper.to_array(tensor) * 100
            tensor.CopyFrom(onnx.numpy_helper.from_array(numbers, tensor.name))
    onnx.save(graph, changed / "onnx/model_kv8.onnx")
    result = command("minimind-export", "verify", changed)
    assert result.returncode == 5


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--target", "portable"], "--kv-cache int8 is for --target ort; leave it out with portable"),
        (["--target", "tensorrt"], "--kv-cache int8 is for --target ort; leave it out with tensorrt"),
    ],
)
def test_it_is_refused_where_there_is_none(refused_here, checkpoint, tmp_path, options, said):
    assert said in refused_here(2, "onnx", checkpoint, "-o", tmp_path / "x", "--kv-cache", "int8", *options)
    assert not (tmp_path / "x").exists()
