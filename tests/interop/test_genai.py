"""onnxruntime-genai runs the folder as it is: both targets, dense and experts, every precision."""

from __future__ import annotations

import json
from typing import Any

import pytest
from interop_tools import completions, environment

from minimind_edge.export.artifact.graph_file import graph_file

TARGETS = ("portable", "ort")
FLOATS = [
    (kind, target, precision)
    for kind in ("minimind2", "minimind2-moe", "minimind3", "minimind3-wide-heads", "minimind3-moe")
    for target in TARGETS
    for precision in ("fp32", "fp16")
]
INTEGERS = [
    (kind, target, precision)
    for kind in ("minimind2", "minimind2-moe-tiny", "minimind3", "minimind3-moe")
    for target in TARGETS
    for precision in ("int8", "int4")
]


@pytest.fixture(autouse=True)
def _has_environment() -> None:
    environment("genai")


@pytest.mark.parametrize(("kind", "target", "precision"), FLOATS + INTEGERS)
def test_greedy_tokens_are_equal(artifact: Any, expected: Any, kind: str, target: str, precision: str) -> None:
    folder = artifact(kind, target, precision)
    graph = folder / graph_file(target, precision)
    found = completions("genai", "generate.py", folder)
    integers = graph if precision.startswith("int") else None
    assert [(one["prompt_ids"], one["token_ids"]) for one in found["completions"]] == expected(kind, integers)
    assert found["type"] == "decoder"


def test_the_streaming_tokenizer_gives_whole_characters(artifact: Any) -> None:
    found = completions("genai", "generate.py", artifact("minimind2"))
    english, chinese = ("".join(one["pieces"]) for one in found["completions"])
    assert english.isascii()
    assert any("\u4e00" <= letter <= "\u9fff" for letter in chinese)
    assert "\ufffd" not in english + chinese


def test_the_search_defaults_are_those_of_the_generation_config(artifact: Any) -> None:
    folder = artifact("minimind2")
    search = completions("genai", "generate.py", folder)["search"]
    generation = json.loads((folder / "generation_config.json").read_text())
    names = ("do_sample", "temperature", "top_k", "top_p", "max_length")
    assert {name: search[name] for name in names} == pytest.approx({name: generation[name] for name in names})


def test_another_graph_of_the_folder_is_chosen_by_an_overlay(artifact: Any, expected: Any) -> None:
    folder = artifact("minimind2", "portable", "fp32", "fp16")
    found = completions("genai", "generate.py", folder, "--graph", "onnx/model_fp16.onnx")
    assert [one["token_ids"] for one in found["completions"]] == [tokens for _, tokens in expected("minimind2")]
