"""Bad input: the contract's exit code, one line that names what is wrong, no traceback, nothing left half-written."""

from __future__ import annotations

import json
import os
import shutil

import pytest
import torch

BAD_INPUT = 3


@pytest.fixture
def weights(checkpoint):
    """The small checkpoint's tensors, to be spoiled."""
    return torch.load(checkpoint, weights_only=True)


def spoil_nan(tensors):
    tensors["model.layers.1.mlp.up_proj.weight"][3, 4] = float("nan")


def spoil_missing(tensors):
    del tensors["model.layers.0.self_attn.v_proj.weight"]


def spoil_surplus(tensors):
    tensors["model.layers.0.self_attn.extra.weight"] = torch.zeros(3)


def spoil_shape(tensors):
    tensors["model.layers.1.mlp.down_proj.weight"] = torch.zeros(128, 64)


@pytest.mark.parametrize(
    ("spoil", "names"),
    [
        (spoil_nan, "model.layers.1.mlp.up_proj.weight"),
        (spoil_missing, "model.layers.0.self_attn.v_proj.weight"),
        (spoil_surplus, "model.layers.0.self_attn.extra.weight"),
        (spoil_shape, "model.layers.1.mlp.down_proj.weight"),
    ],
)
def test_tensors_that_are_wrong_are_named(refused_here, weights, tmp_path, spoil, names):
    spoil(weights)
    path = tmp_path / "spoiled.pth"
    torch.save(weights, path)
    assert names in refused_here(BAD_INPUT, "onnx", path, "-o", tmp_path / "artifact")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", ["empty", "truncated", "text"])
def test_files_that_are_no_checkpoint(refused_here, checkpoint, tmp_path, content):
    path = tmp_path / "bad.pth"
    whole = checkpoint.read_bytes()
    path.write_bytes({"empty": b"", "truncated": whole[: len(whole) // 2], "text": b"these are no weights\n"}[content])
    assert str(path) in refused_here(BAD_INPUT, "onnx", path, "-o", tmp_path / "artifact")
    refused_here(BAD_INPUT, "inspect", path)
    assert list(tmp_path.iterdir()) == [path]


class Malicious:
    def __init__(self, witness):
        self.witness = witness

    def __reduce__(self):
        return os.mkdir, (str(self.witness),)


def test_a_malicious_pickle_is_not_executed(refused, tmp_path):
    path, witness = tmp_path / "evil.pth", tmp_path / "executed"
    torch.save({"model.embed_tokens.weight": Malicious(witness)}, path)
    line = refused(BAD_INPUT, "minimind-export", "onnx", path, "-o", tmp_path / "artifact")
    assert str(path) in line
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("config", "tells"),
    [
        ('{"num_hiden_layers": 2}', "num_hidden_layers"),
        ('{"num_hidden_layers": 3}', "num_hidden_layers"),
        ('{"hidden_size": ', "config"),
        ("[1, 2]", "config"),
        ('{"num_attention_heads": 7}', "num_attention_heads"),
    ],
)
def test_configs_that_do_not_fit(refused_here, checkpoint, tmp_path, config, tells):
    path = tmp_path / "config.json"
    path.write_text(config)
    assert tells in refused_here(BAD_INPUT, "onnx", checkpoint, "--config", path, "-o", tmp_path / "artifact")
    assert list(tmp_path.iterdir()) == [path]


def test_a_path_that_is_not_there(refused_here, tmp_path):
    refused_here(BAD_INPUT, "onnx", tmp_path / "nothing.pth", "-o", tmp_path / "artifact")
    refused_here(BAD_INPUT, "inspect", tmp_path / "nothing")
    refused_here(BAD_INPUT, "verify", tmp_path / "nothing")
    assert list(tmp_path.iterdir()) == []


def test_moe_with_a_dense_checkpoint(refused_here, checkpoint, tmp_path):
    line = refused_here(BAD_INPUT, "onnx", checkpoint, "--moe", "-o", tmp_path / "artifact")
    assert "dense" in line
    assert list(tmp_path.iterdir()) == []


def test_a_context_longer_than_the_model_has(refused_here, checkpoint, tmp_path):
    assert "--max-length" in refused_here(2, "onnx", checkpoint, "--max-length", 99999, "-o", tmp_path / "artifact")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def spoiled(artifact, tmp_path):
    """A copy of the artifact, to be spoiled."""
    return shutil.copytree(artifact, tmp_path / "spoiled")


@pytest.mark.parametrize("content", ["empty", "truncated", "text"])
@pytest.mark.parametrize("file", ["onnx/model.onnx", "manifest.json", "tokenizer.json"])
def test_artifacts_that_are_broken(refused, spoiled, file, content):
    path = spoiled / file
    whole = path.read_bytes()
    path.write_bytes({"empty": b"", "truncated": whole[: len(whole) // 2], "text": b"not what it was\n"}[content])
    assert path.name in refused(BAD_INPUT, "minimind-run", "--engine", spoiled, "hello")
    if file != "tokenizer.json":
        refused(BAD_INPUT, "minimind-bench", spoiled)


def test_an_artifact_without_its_graph(refused, spoiled):
    (spoiled / "onnx/model.onnx").unlink()
    assert "model.onnx" in refused(BAD_INPUT, "minimind-run", "--engine", spoiled, "hello")


@pytest.mark.parametrize(
    ("content", "code"), [("{}", 2), ('{"graphs": [1]}', 2), ('{"tool": {"name": "minimind-edge"}}', BAD_INPUT)]
)
def test_manifests_that_are_foreign(refused_here, checkpoint, spoiled, content, code):
    (spoiled / "manifest.json").write_text(content)
    before = {path: path.read_bytes() for path in spoiled.rglob("*") if path.is_file()}
    refused_here(BAD_INPUT, "verify", spoiled, "--against", checkpoint)
    refused_here(code, "onnx", checkpoint, "-o", spoiled)
    assert {path: path.read_bytes() for path in spoiled.rglob("*") if path.is_file()} == before


def test_a_manifest_that_leads_out_of_its_folder(refused, spoiled):
    path = spoiled / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["graphs"][0]["file"] = manifest["default_graph"] = "../outside.onnx"
    path.write_text(json.dumps(manifest))
    shutil.copy(spoiled / "onnx/model.onnx", spoiled.parent / "outside.onnx")
    refused(BAD_INPUT, "minimind-run", "--engine", spoiled, "hello")


@pytest.mark.parametrize("ids", ["2048", "1,2,-1", "99999999999999999999"])
def test_unknown_token_ids(refused, artifact, ids):
    refused(BAD_INPUT, "minimind-run", "--engine", artifact, "--ids", ids)


@pytest.mark.parametrize("ids", ["", "1,,2", "1.5", "one"])
def test_what_is_no_list_of_token_ids(refused, artifact, ids):
    refused(2, "minimind-run", "--engine", artifact, "--ids", ids)


def test_a_prompt_past_the_limit(refused, artifact):
    line = refused(BAD_INPUT, "minimind-run", "--engine", artifact, "--max-length", "16", "word " * 50)
    assert "16" in line


@pytest.mark.parametrize("raw", [b"caf\xe9", b"\xff\xfe\x00"])
def test_a_prompt_that_is_not_utf8(refused, artifact, raw):
    assert "UTF-8" in refused(BAD_INPUT, "minimind-run", "--engine", artifact, stdin=raw)
    assert "UTF-8" in refused(BAD_INPUT, "minimind-run", "--engine", artifact, "--chat", stdin=raw)


def test_an_argument_that_is_not_utf8(refused, artifact):
    refused(BAD_INPUT, "minimind-run", "--engine", artifact, os.fsdecode(b"caf\xe9"))


@pytest.mark.parametrize("prompt", ["", "  ", "\n"])
def test_an_empty_prompt(refused, artifact, prompt):
    refused(2, "minimind-run", "--engine", artifact, prompt)
    refused(2, "minimind-run", "--engine", artifact, stdin=prompt)


@pytest.mark.parametrize(
    "options",
    [
        ("--temperature", "-1"),
        ("--temperature", "nan"),
        ("--temperature", "inf"),
        ("--top-k", "-1"),
        ("--top-p", "1.5"),
        ("--min-p", "-0.1"),
        ("--repetition-penalty", "0"),
        ("--seed", "-1"),
        ("-n", "0"),
        ("--stop", ""),
        ("--threads", "0"),
        ("--max-length", "0"),
        ("--raw", "--system", "Be brief."),
        ("--ids", "--system", "Be brief."),
        ("--chat", "--json"),
        ("--device", "tpu"),
    ],
    ids=" ".join,
)
def test_options_out_of_range(refused, artifact, options):
    refused(2, "minimind-run", "--engine", artifact, "1", *options)


def test_a_device_that_is_not_there(refused, artifact):
    pytest.importorskip("onnxruntime")
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    assert "CUDA" in refused(4, "minimind-run", "--engine", artifact, "hello", "--device", "cuda")
