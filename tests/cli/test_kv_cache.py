"""`--kv-cache int8`, from the export to the commands that run what it wrote."""

from __future__ import annotations

import json
import shutil

import onnx
import pytest


@pytest.fixture(scope="module")
def folder(tmp_path_factory, artifact, checkpoint, command_of):
    """A copy of the small artifact, with the same graph beside its own whose cache is int8."""
    folder = tmp_path_factory.mktemp("kv") / "tiny"
    shutil.copytree(artifact, folder)
    result = command_of("minimind-export", "onnx", checkpoint, "-o", folder, "--kv-cache", "int8", "--json")
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture(scope="module")
def command_of():
    from conftest import run_command

    return run_command


def entry_of(folder):
    float_cache, int8_cache = json.loads((folder / "manifest.json").read_text())["graphs"]
    assert "kv_cache" not in float_cache
    return int8_cache


def test_the_graph_lies_beside_the_other_and_says_what_it_is(folder):
    entry = entry_of(folder)
    assert (entry["file"], entry["precision"], entry["kv_cache"]) == ("onnx/model_kv8.onnx", "fp32", "int8")
    assert entry["loads_in"] == ["minimind-run"]
    assert entry["parity"]["passed"] is True
    assert 0 < entry["quality"]["mean_kl"] < 0.03
    assert "bits_per_weight" not in entry["quality"]
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["default_graph"] == "onnx/model.onnx"
    properties = {each.key: each.value for each in onnx.load(folder / entry["file"]).metadata_props}
    assert properties["minimind_edge.kv_cache"] == "int8"
    assert "| fp32, int8 cache |" in (folder / "README.md").read_text()


def test_every_command_takes_it(folder, command, checkpoint):
    graph = folder / "onnx/model_kv8.onnx"
    verified = command("minimind-export", "verify", graph, "--against", checkpoint, "--json")
    assert verified.returncode == 0, verified.stderr
    assert json.loads(verified.stdout)["passed"] is True
    inspected = json.loads(command("minimind-export", "inspect", graph, "--json").stdout)
    plain = json.loads(command("minimind-export", "inspect", folder / "onnx/model.onnx", "--json").stdout)
    assert 4 * inspected["kv_bytes_per_token"] == plain["kv_bytes_per_token"]
    told = command("minimind-run", "--engine", graph, "--ids", "1,2,3", "-n", 5, "--greedy", "--json")
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)["completion_tokens"] >= 1
    measured = command("minimind-bench", graph, "--prompt-tokens", 8, "--new-tokens", 4, "--runs", 1, "--json")
    artifact = json.loads(measured.stdout)["artifact"]
    assert (artifact["kv_cache"], artifact["kv_bytes_per_token"]) == ("int8", inspected["kv_bytes_per_token"])


def test_verify_fails_where_a_scale_was_changed(folder, command, checkpoint, tmp_path):
    changed = tmp_path / "changed"
    shutil.copytree(folder, changed)
    graph = onnx.load(changed / "onnx/model_kv8.onnx")
    for tensor in graph.graph.initializer:
        if tensor.name.endswith("k_scale"):
            numbers = onnx.numpy_helper.to_array(tensor) * 100
            tensor.CopyFrom(onnx.numpy_helper.from_array(numbers, tensor.name))
    onnx.save(graph, changed / "onnx/model_kv8.onnx")
    result = command("minimind-export", "verify", changed / "onnx/model_kv8.onnx", "--against", checkpoint)
    assert result.returncode == 5


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--target", "portable"], "--kv-cache int8 is for --target ort; leave it out with portable"),
        (["--target", "tensorrt"], "--kv-cache int8 is for --target ort; leave it out with tensorrt"),
        (["--precision", "fp16"], "choose --precision fp32 or int8 or int4"),
    ],
)
def test_it_is_refused_where_there_is_none(refused_here, checkpoint, tmp_path, options, said):
    assert said in refused_here(2, "onnx", checkpoint, "-o", tmp_path / "x", "--kv-cache", "int8", *options)
    assert not (tmp_path / "x").exists()
