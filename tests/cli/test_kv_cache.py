"""`--kv-cache int8`, from the export to the commands that run what it wrote."""

from __future__ import annotations

import json
import shutil
from functools import partial

import onnx
import pytest

from minimind_edge.export import quantization


@pytest.fixture(scope="module")
def folder(tmp_path_factory, export_in_process):
    """The bundled demo, which is trained: a model of random weights does not bear such a cache.

    Its scales come of less text than usual, which takes a minute; how good they are is not what is asked here.
    """
    folder = tmp_path_factory.mktemp("kv") / "demo"
    little = partial(quantization.QuantizationSettings, rows=16, length=64, measured_rows=4, held_out_rows=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quantization, "QuantizationSettings", little)
        assert export_in_process("onnx", "-o", folder, "--kv-cache", "int8", "--json") == 0
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


def test_every_command_takes_it(folder, command, export_here):
    verified = export_here("verify", folder, "--json")
    assert verified.returncode == 0, verified.stderr
    assert json.loads(verified.stdout)["passed"] is True
    inspected = json.loads(export_here("inspect", folder, "--json").stdout)
    assert inspected["graphs"][0]["kv_bytes_per_token"] == 4 * 2 * 2 * 32  # layers, key and value, heads, width
    told = command("minimind-run", "--engine", folder, "Who are you?", "-n", 20, "--greedy", "--json")
    assert told.returncode == 0, told.stderr
    assert len(json.loads(told.stdout)["text"]) > 10
    measured = command("minimind-bench", folder, "--prompt-tokens", 8, "--new-tokens", 4, "--runs", 1, "--json")
    artifact = json.loads(measured.stdout)["artifact"]
    assert (artifact["kv_cache"], artifact["kv_bytes_per_token"]) == ("int8", 512)


def test_verify_fails_where_a_scale_was_changed(folder, export_here, tmp_path):
    changed = tmp_path / "changed"
    shutil.copytree(folder, changed)
    graph = onnx.load(changed / "onnx/model_kv8.onnx")
    for tensor in graph.graph.initializer:
        if tensor.name.endswith("k_scale"):
            numbers = onnx.numpy_helper.to_array(tensor) * 100
            tensor.CopyFrom(onnx.numpy_helper.from_array(numbers, tensor.name))
    onnx.save(graph, changed / "onnx/model_kv8.onnx")
    assert export_here("verify", changed).returncode == 5


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
