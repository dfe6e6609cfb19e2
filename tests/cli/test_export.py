"""minimind-export onnx, verify and inspect: what they write, print and answer."""

from __future__ import annotations

import json
import shutil

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
