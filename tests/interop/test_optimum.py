"""optimum-onnx runs the folder as it is by ORTModelForCausalLM, and exports MiniMind by its own command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from graph_rows import Batch, GraphRunner, largest_errors, make_model
from interop_tools import SCRIPTS, completions, environment, interpreter, run

from minimind_edge.export.bundled import bundled_checkpoint


@pytest.fixture(autouse=True)
def _has_environment() -> None:
    environment("optimum")


@pytest.mark.parametrize(
    ("kind", "target", "model_type"),
    [
        ("minimind2", "portable", "llama"),
        ("minimind2", "ort", "llama"),
        ("minimind3", "portable", "qwen3"),
        ("minimind3", "ort", "qwen3"),
        ("minimind3-moe", "portable", "qwen3_moe"),
        ("minimind3-moe", "ort", "qwen3_moe"),
    ],
)
def test_greedy_tokens_and_the_pipelines_text_are_equal(
    artifact: Any, expected: Any, kind: str, target: str, model_type: str
) -> None:
    folder = artifact(kind, target)
    found = completions("optimum", "generate.py", folder)
    assert [(one["prompt_ids"], one["token_ids"]) for one in found["completions"]] == expected(kind)
    assert [one["text"] for one in found["completions"]] == [one["decoded"] for one in found["completions"]]
    assert found["type"] == model_type
    assert "optimum" in loads_in(folder)


LOAD = """
import sys
from optimum.onnxruntime import ORTModelForCausalLM
ORTModelForCausalLM.from_pretrained(sys.argv[1])
"""


@pytest.mark.parametrize("kind", ["minimind2", "minimind3-moe"])
def test_loading_prints_nothing(artifact: Any, kind: str) -> None:
    result = run("optimum", [*interpreter("optimum"), "-c", LOAD, str(artifact(kind, "ort"))])
    assert (result.returncode, result.stderr) == (0, "")


def test_one_graph_of_several_is_chosen_by_its_file(artifact: Any, expected: Any) -> None:
    folder = artifact("minimind2", "portable", "fp32", "fp16")
    found = completions("optimum", "generate.py", folder, "--graph", "model_fp16.onnx")
    assert [one["token_ids"] for one in found["completions"]] == [tokens for _, tokens in expected("minimind2")]
    english, chinese = (one["text"] for one in found["completions"])
    assert english.isascii()
    assert any("\u4e00" <= letter <= "\u9fff" for letter in chinese)


def test_shared_experts_have_no_type_there_and_run_as_a_llama(artifact: Any, expected: Any) -> None:
    folder = artifact("minimind2-moe")
    refused = run("optimum", [*interpreter("optimum"), str(SCRIPTS / "optimum" / "generate.py"), str(folder), "hello"])
    assert "model type `minimind`" in refused.stderr
    assert "optimum" not in loads_in(folder)
    found = completions("optimum", "generate.py", folder, "--as-llama")
    assert [one["token_ids"] for one in found["completions"]] == [tokens for _, tokens in expected("minimind2-moe")]


def test_heads_of_their_own_width_need_a_line(artifact: Any, expected: Any) -> None:
    kind = "minimind3-wide-heads"
    folder = artifact(kind)
    assert "optimum" not in loads_in(folder)
    found = completions("optimum", "generate.py", folder, "--own-head-dim")
    assert [one["token_ids"] for one in found["completions"]] == [
        tokens for _, tokens in expected("minimind3-wide-heads")
    ]


@pytest.mark.parametrize("variant", ["moe", "minimind3"])
def test_optimum_cli_exports_minimind(variant: str, tmp_path: Path) -> None:
    model, source, target = make_model(variant), tmp_path / "checkpoint", tmp_path / "exported"
    model.save_pretrained(source)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(bundled_checkpoint(moe=False).parent / name, source)
    command = [str(environment("optimum") / "bin" / "optimum-cli"), "export", "onnx", "--model", str(source)]
    result = run("optimum", [*command, "--task", "text-generation-with-past", str(target)])
    assert result.returncode == 0, result.stderr[-2000:]

    batch = Batch.of("left")
    length = batch.ids.shape[1]
    for splits in ([length], [2, length - 3, 1]):
        output = GraphRunner(target / "model.onnx", shared=False).run(batch, splits)
        assert max(largest_errors(model, batch, output)) < 1e-4


def loads_in(folder: Path) -> list[str]:
    return json.loads((folder / "manifest.json").read_text())["graphs"][0]["loads_in"]
