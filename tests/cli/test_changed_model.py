"""The page "Exporting a changed model": its example is exported, run and verified by its own commands."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
from pathlib import Path

import pytest
import torch

PAGE = Path(__file__).parent.parent.parent / "docs" / "changed-model.md"


def examples(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The page's `my_model.py`, and a checkpoint of it."""
    folder = tmp_path_factory.mktemp("changed")
    (source,) = [example for example in examples("python") if example.startswith("# my_model.py")]
    (folder / "my_model.py").write_text(source)
    torch.manual_seed(1)
    torch.save(example_model(folder).state_dict(), folder / "my.pth")
    return folder


def example_model(folder: Path):
    spec = importlib.util.spec_from_file_location("my_model", folder / "my_model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.MyMiniMind(module.MyConfig())


def test_the_commands_of_the_page_run_as_they_stand(folder, command, monkeypatch):
    monkeypatch.chdir(folder)
    export, run, verify = [shlex.split(line) for line in examples("sh")[0].splitlines()]
    result = command(*export, cwd=folder)
    assert result.returncode == 0, result.stderr
    assert "my_model.py:MyMiniMind" in result.stderr
    manifest = json.loads((folder / "my-model" / "manifest.json").read_text())
    assert manifest["traced"]["class"] == "MyMiniMind"
    assert manifest["graphs"][0]["target"] == "portable"
    result = command(*run, "--greedy", "-n", "5", "--ignore-eos", "--json", cwd=folder)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["token_ids"] == greedy(folder, [1, 2, 3], 5)
    result = command(*verify, cwd=folder)
    assert result.returncode == 0, result.stderr
    assert "the reference is the code of my_model.py:MyMiniMind" in result.stderr


def greedy(folder: Path, ids: list[int], steps: int) -> list[int]:
    model, ids = example_model(folder), list(ids)
    model.load_state_dict(torch.load(folder / "my.pth", weights_only=True))
    prompt = len(ids)
    for _ in range(steps):
        tokens = torch.tensor([ids])
        with torch.no_grad():
            logits, _ = model(tokens, torch.ones_like(tokens), torch.arange(len(ids))[None])
        ids.append(int(logits[0, -1].argmax()))
    return ids[prompt:]


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--model", "my_model.py"], 2, "FILE.py:CLASS"),
        (["--model", "my_model.py:MyMiniMind", "--target", "ort"], 2, "portable or tensorrt"),
        (["--model", "nowhere.py:MyMiniMind"], 3, "no such file"),
        (["--model", "my_model.py:Mine"], 3, "has no class Mine; it has MyMiniMind"),
    ],
)
def test_what_is_wrong_with_model_is_told_in_a_line(options, code, message, folder, refused_here, monkeypatch):
    monkeypatch.chdir(folder)
    assert message in refused_here(code, "onnx", "my.pth", *options)
