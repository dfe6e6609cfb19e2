from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from minimind_edge.runtime.artifact.folder import Artifact
from minimind_edge.runtime.errors import ArtifactError

GRAPHS = [
    {"file": "onnx/model.onnx", "target": "ort", "precision": "fp32", "opset": 21, "max_length": 512, "sha256": "ab"},
    {"file": "onnx/model_fp16.onnx", "target": "ort", "precision": "fp16", "max_length": 256},
]
MANIFEST = {
    "format": 1,
    "tool": {"name": "minimind-edge", "version": "0.1.0"},
    "checkpoint": {"file": "full_sft_512.pth", "sha256": "00", "generation": "minimind2"},
    "architecture": {"hidden_size": 512, "moe": None},
    "graphs": GRAPHS,
    "default_graph": "onnx/model.onnx",
    "versions": {"onnx": "1.23.2"},
}


def write(folder: Path, name: str, value: object = "") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "model"
    write(root, "manifest.json", MANIFEST)
    write(root, "config.json", {"model_type": "llama", "max_position_embeddings": 512, "eos_token_id": 7})
    write(root, "generation_config.json", {"eos_token_id": [2, 0], "bos_token_id": 1, "temperature": 1, "top_k": 50})
    write(root, "tokenizer.json", {"model": {}})
    write(root, "tokenizer_config.json", {"eos_token": "<|im_end|>"})
    write(root, "chat_template.jinja", "{{ messages }}")
    write(root, "onnx/model.onnx")
    write(root, "onnx/model_fp16.onnx")
    return root


def refusal(path, **arguments) -> str:
    with pytest.raises(ArtifactError) as caught:
        Artifact.open(path, **arguments)
    message = str(caught.value)
    assert "\n" not in message
    assert caught.value.exit_code == 3
    return message


def test_a_whole_folder(folder):
    artifact = Artifact.open(folder)
    assert artifact.folder == folder
    assert artifact.graph == folder / "onnx/model.onnx"
    assert artifact.entry is not None
    assert (artifact.entry.target, artifact.entry.precision, artifact.entry.opset) == ("ort", "fp32", 21)
    assert artifact.manifest is not None
    assert artifact.manifest.checkpoint is not None
    assert artifact.manifest.checkpoint.generation == "minimind2"
    assert artifact.manifest.architecture.hidden_size == 512
    assert artifact.manifest.versions["onnx"] == "1.23.2"
    assert artifact.config.model_type == "llama"
    assert artifact.max_length == 512
    assert artifact.tokenizer == folder / "tokenizer.json"
    assert artifact.tokenizer_config["eos_token"] == "<|im_end|>"
    assert artifact.chat_template == folder / "chat_template.jinja"


def test_generation_defaults(folder):
    generation = Artifact.open(folder).generation
    assert generation.eos_token_ids == (2, 0)
    assert generation.bos_token_id == 1
    assert generation.temperature == 1.0
    assert generation.top_k == 50
    assert generation.top_p is None


def test_one_eos_id_and_the_config_behind_it(folder):
    write(folder, "generation_config.json", {"eos_token_id": 2})
    assert Artifact.open(folder).generation.eos_token_ids == (2,)
    (folder / "generation_config.json").unlink()
    assert Artifact.open(folder).generation.eos_token_ids == (7,)
    write(folder, "config.json", {})
    assert Artifact.open(folder).generation.eos_token_ids == ()


def test_precision_chooses_a_graph(folder):
    artifact = Artifact.open(folder, precision="fp16")
    assert artifact.graph == folder / "onnx/model_fp16.onnx"
    assert artifact.max_length == 256
    assert "fp16, fp32" in refusal(folder, precision="int4")


def test_default_graph_of_the_manifest(folder):
    write(folder, "manifest.json", {**MANIFEST, "default_graph": "onnx/model_fp16.onnx"})
    assert Artifact.open(folder).graph == folder / "onnx/model_fp16.onnx"


def test_a_folder_without_tokenizer_is_legal(folder):
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (folder / name).unlink()
    artifact = Artifact.open(folder)
    assert artifact.tokenizer is None
    assert artifact.chat_template is None
    assert dict(artifact.tokenizer_config) == {}


@pytest.mark.parametrize("name", ["onnx/model.onnx", "model.onnx", "onnx/model_q4.onnx", "onnx/model_quantized.onnx"])
def test_a_folder_without_manifest(tmp_path, name):
    write(tmp_path, "config.json", {"max_position_embeddings": 64})
    graph = write(tmp_path, name)
    artifact = Artifact.open(tmp_path)
    assert (artifact.graph, artifact.manifest, artifact.entry, artifact.max_length) == (graph, None, None, 64)


def test_precision_by_file_name(tmp_path):
    write(tmp_path, "onnx/model.onnx")
    half = write(tmp_path, "onnx/model_fp16.onnx")
    assert Artifact.open(tmp_path, precision="fp16").graph == half
    assert "onnx/model_q4.onnx" in refusal(tmp_path, precision="int4")
    assert "fp32, fp16, bf16, int8, int4" in refusal(tmp_path, precision="fp8")


def test_a_bare_graph(tmp_path):
    graph = write(tmp_path, "alone.onnx")
    artifact = Artifact.open(graph)
    assert (artifact.folder, artifact.graph, artifact.tokenizer, artifact.max_length) == (None, graph, None, None)
    assert "precision" in refusal(graph, precision="fp16")


@pytest.mark.parametrize("name", ["onnx/model_fp16.onnx", "own.onnx"])
def test_a_graph_finds_the_folder_around_it(folder, name):
    artifact = Artifact.open(write(folder, name))
    assert artifact.folder == folder
    assert artifact.tokenizer == folder / "tokenizer.json"
    assert (artifact.entry.precision if artifact.entry else None) == ("fp16" if name.startswith("onnx/") else None)


def test_a_plan_is_opened_by_its_name_or_where_there_is_no_graph(folder, tmp_path):
    plan = write(folder, "model.plan")
    artifact = Artifact.open(plan)
    assert (artifact.graph, artifact.tokenizer) == (plan, folder / "tokenizer.json")
    assert Artifact.open(folder).graph != plan
    alone = write(tmp_path / "alone", "model.plan")
    assert Artifact.open(alone).folder is None
    assert Artifact.open(alone.parent).graph == alone


def test_nothing_there(tmp_path):
    assert "no artifact at" in refusal(tmp_path / "nowhere")
    assert "expected a folder" in refusal(write(tmp_path, "model.txt"))
    told = refusal(write(tmp_path, "model.pth"))
    assert "is a checkpoint" in told
    assert f"minimind-export onnx {tmp_path / 'model.pth'}" in told
    assert "minimind-export" in refusal(tmp_path)


@pytest.mark.parametrize(
    "name", ["../secret.onnx", "/etc/passwd", "onnx/../../x.onnx", "C:\\x.onnx", "..\\x.onnx", "a\0b"]
)
def test_names_that_leave_the_folder(folder, name):
    write(folder.parent, "secret.onnx")
    graphs = [{**GRAPHS[0], "file": name}]
    write(folder, "manifest.json", {**MANIFEST, "graphs": graphs, "default_graph": name})
    assert "not safe" in refusal(folder)
    assert "not safe" in refusal(folder / "onnx/model.onnx")


def test_links_that_leave_the_folder(folder):
    secret = write(folder.parent, "secret.json", {})
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to(secret)
    assert "leads out of its folder" in refusal(folder)


def test_links_inside_the_folder_are_fine(folder):
    (folder / "onnx/model.onnx").rename(folder / "weights.onnx")
    (folder / "onnx/model.onnx").symlink_to(folder / "weights.onnx")
    assert Artifact.open(folder).graph == folder / "onnx/model.onnx"


def test_a_snapshot_of_the_hugging_face_cache(folder):
    cache = folder.parent / "models--someone--minimind"
    snapshot = cache / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    (cache / "blobs").mkdir()
    for source in folder.rglob("*.*"):
        blob = cache / "blobs" / source.name
        source.rename(blob)
        link = snapshot / source.relative_to(folder)
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(blob)
    assert Artifact.open(snapshot).tokenizer == snapshot / "tokenizer.json"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_no_file(folder):
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")
    assert Artifact.open(folder).config.model_type is None


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("[]", "found a list"),
        ("3", "found 3"),
        ('{"a": NaN}', "NaN"),
        ('{"a": 1' + "0" * 5000 + "}", "not valid JSON"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
@pytest.mark.parametrize("name", ["manifest.json", "config.json", "generation_config.json", "tokenizer_config.json"])
def test_what_is_no_json_object(folder, name, text, part):
    write(folder, name, text)
    message = refusal(folder)
    assert part in message
    assert name in message


def test_bytes_that_are_no_text(folder):
    (folder / "config.json").write_bytes(b"\xff\xfe\xfd{}")
    assert "config.json" in refusal(folder)


def test_a_huge_file(folder, monkeypatch):
    monkeypatch.setattr("minimind_edge.runtime.artifact.json_file.MAX_BYTES", 8)
    assert "has more than 8 bytes" in refusal(folder)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"format": 2}, "upgrade"),
        ({"format": "1"}, 'format is "1": expected an integer'),
        ({"format": True}, "format is true: expected an integer"),
        ({"graphs": []}, "lists no graph"),
        ({"graphs": {}}, "graphs is an object: expected a list"),
        ({"graphs": ["onnx/model.onnx"]}, 'graphs[0] is "onnx/model.onnx": expected an object'),
        ({"graphs": [{**GRAPHS[0], "file": 3}]}, "graphs[0].file is 3: expected a string"),
        ({"graphs": [{"file": "onnx/model.onnx", "target": "ort"}]}, "graphs[0].precision is missing"),
        ({"graphs": [{**GRAPHS[0], "max_length": 1.5}]}, "graphs[0].max_length is 1.5: expected an integer"),
        ({"graphs": [{**GRAPHS[0], "max_length": 0}]}, "graphs[0].max_length is 0: expected an integer, at least 1"),
        ({"default_graph": "onnx/other.onnx"}, "none of its graphs"),
        ({"checkpoint": "x"}, 'checkpoint is "x": expected an object'),
    ],
)
def test_a_manifest_of_wrong_types(folder, change, part):
    write(folder, "manifest.json", {**MANIFEST, **change})
    message = refusal(folder)
    assert part in message
    assert "manifest.json" in message


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"eos_token_id": "2"}, 'eos_token_id is "2": expected an integer, a list or null'),
        ({"eos_token_id": [2, None]}, "eos_token_id[1] is null: expected an integer"),
        ({"temperature": "hot"}, 'temperature is "hot": expected a number'),
        ({"temperature": 10**400}, "expected a number"),
        ({"top_k": 1.5}, "top_k is 1.5: expected an integer"),
        ({"do_sample": 1}, "do_sample is 1: expected true or false"),
    ],
)
def test_a_generation_config_of_wrong_types(folder, values, part):
    write(folder, "generation_config.json", values)
    assert part in refusal(folder)


@pytest.mark.parametrize("value", [-5, "512", True])
def test_a_config_with_an_impossible_length(tmp_path, value):
    write(tmp_path, "config.json", {"max_position_embeddings": value})
    assert "max_position_embeddings" in refusal(write(tmp_path, "model.onnx"))


def test_a_listed_graph_that_is_missing(folder):
    (folder / "onnx/model.onnx").unlink()
    assert "lacks onnx/model.onnx" in refusal(folder)


def test_a_tensorrt_graph(folder):
    write(folder, "manifest.json", {**MANIFEST, "graphs": [{**GRAPHS[0], "target": "tensorrt"}]})
    artifact = Artifact.open(folder)
    assert (artifact.graph, artifact.entry.target) == (folder / "onnx/model.onnx", "tensorrt")
