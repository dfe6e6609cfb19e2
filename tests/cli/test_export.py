"""minimind-export onnx, verify and inspect: what they write, print and answer."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

ARTIFACT_FILES = {
    "README.md",
    "chat_template.jinja",
    "config.json",
    "genai_config.json",
    "generation_config.json",
    "manifest.json",
    "onnx/model.onnx",
    "tokenizer.json",
    "tokenizer_config.json",
}


def files_below(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_onnx_tells_what_it_did_and_what_to_type_next(exported):
    result, folder = exported
    assert result.returncode == 0
    assert files_below(folder) == ARTIFACT_FILES
    assert [path.name for path in folder.parent.iterdir()] == [folder.name], "something was left beside the artifact"
    assert "greedy tokens equal" in result.stdout
    assert result.stdout.splitlines()[-3:-1] == [f"wrote {folder / 'onnx/model.onnx'}", "try it:"]
    assert "assumed" in result.stderr
    assert "num_attention_heads 8" in result.stderr


def test_onnx_names_the_folder_after_the_checkpoint_and_answers_in_json(export_here, checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = export_here("onnx", checkpoint, "--target", "portable", "--json")
    assert (result.returncode, result.stderr) == (0, "")
    answer = json.loads(result.stdout)
    assert answer["folder"] == "full_sft_128"
    assert answer["manifest"]["graphs"][0]["target"] == "portable"
    assert answer["manifest"]["graphs"][0]["parity"]["passed"] is True
    assert files_below(tmp_path / "full_sft_128") == ARTIFACT_FILES


def test_onnx_replaces_an_artifact_only_by_force(refused_here, artifact, checkpoint):
    before = (artifact / "manifest.json").read_bytes()
    assert "--force" in refused_here(2, "onnx", checkpoint, "-o", artifact)
    assert (artifact / "manifest.json").read_bytes() == before


def test_without_a_tokenizer_the_artifact_runs_by_ids(export_here, command, checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = export_here("onnx", shutil.copy(checkpoint, tmp_path), "--no-verify", "-o", "x")
    assert result.returncode == 0
    assert "warning: no tokenizer" in result.stderr
    assert result.stderr.count("tokenizer ") == 1, "one line says it, and no other contradicts it"
    assert "context    8192 of the model's 32768 tokens; --max-length exports more" in result.stderr
    assert result.stdout.splitlines()[-1] == "  minimind-run --engine x --ids 1,2,3"
    generated = command("minimind-run", "--engine", "x", "--ids", "1,2,3", "-n", 3, cwd=tmp_path)
    assert generated.returncode == 0
    assert len(generated.stdout.split(",")) <= 3


def test_verify_passes_and_names_what_it_compared(command, artifact, checkpoint):
    result = command("minimind-export", "verify", artifact, "--against", checkpoint)
    assert result.returncode == 0
    assert result.stdout.startswith(f"{artifact / 'onnx/model.onnx'} against {checkpoint}\n")
    assert "passed" in result.stdout.splitlines()[-1]


def test_verify_fails_with_exit_code_5_where_one_weight_was_changed(export_here, artifact, checkpoint, tmp_path):
    changed = tmp_path / "changed"
    shutil.copytree(artifact, changed)
    graph = onnx.load(changed / "onnx/model.onnx")
    largest = max(graph.graph.initializer, key=lambda tensor: np.prod(tensor.dims))
    weights = numpy_helper.to_array(largest).copy()
    weights.flat[0] += 8.0
    largest.CopyFrom(numpy_helper.from_array(weights, largest.name))
    onnx.save(graph, changed / "onnx/model.onnx")
    result = export_here("verify", changed, "--against", checkpoint, "--json")
    assert (result.returncode, result.stderr) == (5, "")
    answer = json.loads(result.stdout)
    assert answer["passed"] is False
    assert answer["graphs"][0]["changed"] is True
    assert answer["graphs"][0]["parity"]["failures"]


@pytest.mark.parametrize("what", ["checkpoint", "artifact", "graph"])
def test_inspect_says_what_a_path_is(export_here, checkpoint, artifact, what):
    path = {"checkpoint": checkpoint, "artifact": artifact, "graph": artifact / "onnx/model.onnx"}[what]
    people = export_here("inspect", path)
    assert (people.returncode, people.stderr) == (0, "")
    assert people.stdout.startswith(what)
    program = export_here("inspect", path, "--json")
    assert (program.returncode, program.stderr) == (0, "")
    assert json.loads(program.stdout)["kind"] == what


WITHOUT_EXPORT = """
import sys
for name in ("onnx", "onnx_ir", "torch", "transformers", "safetensors", "rich"):
    sys.modules[name] = None  # importing it fails, as it does where only the wheel is installed
from minimind_edge.cli.export_app import main
sys.argv = ["minimind-export", *sys.argv[1:]]
main()
"""


@pytest.fixture(scope="module")
def device_inspect():
    """`minimind-export inspect` as on a device, where only the wheel is installed."""

    def run(*words):
        program = [sys.executable, "-c", WITHOUT_EXPORT, "inspect", *map(str, words)]
        return subprocess.run(program, capture_output=True, text=True, check=False)

    return run


ONLY_ONNX_TELLS = {"ir_version", "opsets", "operators", "weights"}


@pytest.mark.parametrize("what", ["artifact", "graph"])
def test_inspect_tells_the_same_on_a_device_except_what_only_onnx_reads(device_inspect, export_here, artifact, what):
    path = artifact if what == "artifact" else artifact / "onnx/model.onnx"
    result = device_inspect(path, "--json")
    assert (result.returncode, result.stderr) == (0, "")
    found, expected = json.loads(result.stdout), json.loads(export_here("inspect", path, "--json").stdout)
    graphs, expected_graphs = ((each["graphs"] if what == "artifact" else [each]) for each in (found, expected))
    for graph, whole in zip(graphs, expected_graphs, strict=True):
        assert all(graph.pop(name) is None and whole.pop(name) for name in ONLY_ONNX_TELLS)
        assert whole.pop("producer").startswith(graph.pop("producer")), "ONNX Runtime leaves out its version"
    assert found == expected
    people = device_inspect(path)
    assert people.stdout.startswith(what)
    assert "pip install onnx" in people.stdout


def test_inspect_on_a_device_counts_the_weights_next_to_a_graph(device_inspect, tmp_path):
    weight = numpy_helper.from_array(np.full((64, 8), 0.5, np.float32), "w")
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 64])
    node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"])
    graph = onnx.helper.make_graph([node], "g", [value], [onnx.helper.make_empty_tensor_value_info("y")], [weight])
    model = onnx.helper.make_model(graph, ir_version=10, opset_imports=[onnx.helper.make_opsetid("", 21)])
    path = tmp_path / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location="model.onnx_data", size_threshold=0)
    found = json.loads(device_inspect(path, "--json").stdout)
    assert found["bytes"] == path.stat().st_size + 64 * 8 * 4
    assert found["inputs"] == [{"name": "x", "dtype": "float32", "shape": ["n", 64]}]


@pytest.mark.parametrize(
    ("name", "content", "code", "told"),
    [
        ("broken.onnx", b"hello, I am a text file" * 20, 3, "not an ONNX graph"),
        ("none.onnx", None, 3, "cannot read"),
        ("full_sft_512.pth", b"PK", 4, "pip install 'minimind-edge[export]'"),
    ],
)
def test_inspect_on_a_device_refuses_in_one_line(device_inspect, tmp_path, name, content, code, told):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    result = device_inspect(tmp_path / name)
    assert (result.returncode, result.stdout) == (code, "")
    assert result.stderr.count("\n") == 1
    assert told in result.stderr
