"""Checkpoints and artifacts of the Hugging Face Hub (hf://), from a stand-in for it on this machine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import onnx
import pytest
from hub_standin import COMMIT, HubStandin
from served_command import ServedCommand, chat

UPSTREAM = Path(__file__).resolve().parent.parent / "data/upstream/minimind2-2025-10/llama"
"""A checkpoint as upstream publishes it: safetensors, configs, tokenizer and chat template."""

PROMPT = ("How are you?", "-n", 8, "--greedy")


def written_repository(folder: Path) -> Path:
    """A repository as people publish them, with files that must not be fetched."""
    shutil.copytree(UPSTREAM, folder)
    for name in ("pytorch_model.bin", "full_sft.pth", "modeling_minimind.py", "model.plan", "training_args.bin"):
        (folder / name).write_bytes(b"not to be fetched")
    return folder


@pytest.fixture(scope="module")
def hub(tmp_path_factory, artifact):
    folder = tmp_path_factory.mktemp("hub")
    pickles = folder / "pickles"
    pickles.mkdir()
    (pickles / "pytorch_model.bin").write_bytes(b"x")
    (pickles / "config.json").write_text("{}")
    twice = folder / "twice"
    shutil.copytree(artifact, twice)
    manifest = json.loads((twice / "manifest.json").read_text())
    other = {**manifest["graphs"][0], "file": "onnx/model_other.onnx", "precision": "int8"}
    (twice / "manifest.json").write_text(json.dumps({**manifest, "graphs": [*manifest["graphs"], other]}))
    graph = onnx.load(twice / "onnx/model.onnx")
    graph.producer_version = "another one"  # equal files would be fetched once
    onnx.save(graph, twice / "onnx/model_other.onnx")
    repositories = {
        "someone/MiniMind2-Tiny": written_repository(folder / "checkpoint"),
        "someone/artifact": twice,
        "someone/pickles": pickles,
        "someone/gated": None,
    }
    standin = HubStandin(repositories)
    yield standin
    standin.close()


@pytest.fixture
def online(hub, tmp_path):
    """The environment of a machine that reaches the stand-in, and has an empty cache."""
    hub.fetched.clear()
    return {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}


def test_a_checkpoint_is_exported_and_its_commit_is_in_the_manifest(command, hub, online, tmp_path):
    export = ("minimind-export", "onnx", "hf://someone/MiniMind2-Tiny", "--no-verify")
    result = command(*export, cwd=tmp_path, env=online)
    assert result.returncode == 0, result.stderr
    assert set(hub.fetched) == {path.name for path in UPSTREAM.iterdir()}
    folder = tmp_path / "MiniMind2-Tiny"
    checkpoint = json.loads((folder / "manifest.json").read_text())["checkpoint"]
    assert (checkpoint["hub"], checkpoint["revision"]) == ("someone/MiniMind2-Tiny", COMMIT)
    assert "path" not in checkpoint
    told = command("minimind-export", "inspect", folder).stdout
    assert f"hf://someone/MiniMind2-Tiny@{COMMIT}" in told
    same = command("minimind-export", "onnx", UPSTREAM, "-o", "local", "--no-verify", cwd=tmp_path)
    assert same.returncode == 0, same.stderr
    local = json.loads((tmp_path / "local/manifest.json").read_text())
    assert local["graphs"][0]["sha256"] == json.loads((folder / "manifest.json").read_text())["graphs"][0]["sha256"]
    assert "hub" not in local["checkpoint"]


def test_an_artifact_is_run_with_the_graph_that_is_asked_for_alone(command, hub, online, artifact):
    alone = command("minimind-run", "--engine", artifact, *PROMPT).stdout
    result = command("minimind-run", "--engine", "hf://someone/artifact@v1", *PROMPT, env=online)
    assert (result.returncode, result.stdout, result.stderr) == (0, alone, "")
    assert [name for name in hub.fetched if name.endswith(".onnx")] == ["onnx/model.onnx"]
    assert "README.md" not in hub.fetched
    asked = ("--engine", "hf://someone/artifact", "--precision", "int8")
    assert command("minimind-run", *asked, *PROMPT, env=online).returncode == 0
    assert [name for name in hub.fetched if name.endswith(".onnx")][1:] == ["onnx/model_other.onnx"]


def test_what_the_cache_has_needs_no_connection(command, hub, online):
    run = ("minimind-run", "--engine", "hf://someone/artifact", *PROMPT)
    first = command(*run, env=online)
    assert first.returncode == 0, first.stderr
    hub.fetched.clear()
    for offline in ({"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}):
        again = command(*run, env=online | offline)
        assert (again.returncode, again.stdout) == (0, first.stdout), again.stderr
    pinned = command("minimind-run", "--engine", f"hf://someone/artifact@{COMMIT}", *PROMPT, env=online)
    assert pinned.stdout == first.stdout
    assert hub.fetched == []


@pytest.mark.parametrize("workers", [1, 2])
def test_an_artifact_is_served_under_the_name_of_its_repository(command, hub, online, artifact, workers):
    question = "How are you?"
    alone = command("minimind-run", "--engine", artifact, question, "-n", 8, "--greedy").stdout
    with ServedCommand("hf://someone/artifact@v1", "--threads", 1, "--workers", workers, **online) as served:
        answer = served.ask(question, max_tokens=8).json()
        assert answer["choices"][0]["message"]["content"] == alone.rstrip("\n")
        assert answer["model"] == "artifact"
    assert [name for name in hub.fetched if name.endswith(".onnx")] == ["onnx/model.onnx"]


def test_two_repositories_of_one_name_take_names(refused, hub, online):
    hub.repositories["other/artifact"] = hub.repositories["someone/artifact"]
    both = ("hf://someone/artifact", "hf://other/artifact")
    assert "NAME=ARTIFACT" in refused(2, "minimind-serve", *both, "--port", 0, env=online)
    assert hub.fetched == []  # it is told before anything is fetched
    with ServedCommand(*both, "--name", "second=hf://other/artifact", "--threads", 1, **online) as served:
        assert served.ask("x", model="second", max_tokens=1).json()["model"] == "second"
        with served.client() as client:
            assert client.post("/v1/chat/completions", json=chat("x", model="third")).status_code == 404


@pytest.mark.parametrize(
    ("address", "code", "told"),
    [
        ("hf://someone/nothing", 3, "no such repository"),
        ("hf://someone/artifact@v9", 3, "no such revision"),
        ("hf://someone/gated", 3, "asks for access"),
        ("hf://someone/pickles", 3, "pickles, are not fetched"),
        ("hf://someone", 2, "expected hf://OWNER/NAME"),
        ("hf://someone/artifact@", 2, "expected hf://OWNER/NAME"),
        ("hf://some one/x", 2, "expected hf://OWNER/NAME"),
    ],
)
@pytest.mark.parametrize(
    "program",
    [("minimind-run", "x", "--engine"), ("minimind-export", "onnx"), ("minimind-serve", "--port", "0")],
    ids=["run", "onnx", "serve"],
)
def test_what_the_hub_does_not_give_is_one_line(refused, online, tmp_path, program, address, code, told):
    assert told in refused(code, *program, address, env=online, cwd=tmp_path)


@pytest.mark.parametrize("environment", [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}])
def test_without_a_connection_and_a_cache_it_is_a_lack_of_the_machine(refused, online, environment):
    run = ("minimind-run", "--engine", "hf://someone/artifact", "x")
    assert "cannot be fetched" in refused(4, *run, env=online | environment)


def test_the_cache_is_not_written_to(refused, online):
    assert "hf://" in refused(2, "minimind-export", "eval", "hf://someone/artifact", "--save", env=online)


def test_a_path_of_this_machine_opens_no_connection(command, hub, online, artifact):
    assert command("minimind-run", "--engine", artifact, *PROMPT, env=online).returncode == 0
    assert hub.fetched == []
