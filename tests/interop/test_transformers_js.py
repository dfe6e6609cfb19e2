"""transformers.js in Node runs the portable graphs as they are, by its names of the precisions."""

from __future__ import annotations

import json
from typing import Any

import pytest
from interop_tools import SCRIPTS, completions, environment, interpreter, run

from minimind_edge.export.artifact.graph_file import graph_file

DTYPES = {"fp32": "fp32", "fp16": "fp16", "int8": "q8", "int4": "q4"}
AS_IT_IS = [
    *((kind, precision) for kind in ("minimind2", "minimind3", "minimind3-moe") for precision in ("fp32", "fp16")),
    ("minimind3-wide-heads", "fp32"),
    ("minimind2", "int8"),
    ("minimind2", "int4"),
]
RANDOM = [
    (kind, precision) for kind in ("minimind2-moe-tiny", "minimind3", "minimind3-moe") for precision in ("int8", "int4")
]
"""ONNX Runtime rounds activations in front of integers unless it is asked not to. A trained model's tokens bear that,
those of random weights are too close to each other."""


@pytest.fixture(autouse=True)
def _has_environment() -> None:
    environment("transformers-js")


@pytest.mark.parametrize(("kind", "precision"), AS_IT_IS)
def test_greedy_tokens_are_equal(artifact: Any, expected: Any, kind: str, precision: str) -> None:
    folder = artifact(kind, "portable", precision)
    graph = folder / graph_file("portable", precision)
    found = completions("transformers-js", "generate.mjs", folder, "--dtype", DTYPES[precision])
    integers = graph if precision.startswith("int") else None
    assert [(one["prompt_ids"], one["token_ids"]) for one in found["completions"]] == expected(kind, integers)
    assert "transformers.js" in loads_in(folder)


@pytest.mark.parametrize(("kind", "precision"), RANDOM)
def test_greedy_tokens_of_integers_are_equal_where_activations_stay_float32(
    artifact: Any, expected: Any, kind: str, precision: str
) -> None:
    folder = artifact(kind, "portable", precision)
    options = ["--dtype", DTYPES[precision], "--float32-activations"]
    if kind.startswith("minimind2-moe"):
        options.append("--as-llama")
    found = completions("transformers-js", "generate.mjs", folder, *options)
    graph = folder / graph_file("portable", precision)
    assert [(one["prompt_ids"], one["token_ids"]) for one in found["completions"]] == expected(kind, graph)


def test_the_streamer_and_the_pipeline_give_the_same_text(artifact: Any) -> None:
    found = completions("transformers-js", "generate.mjs", artifact("minimind2"))
    for one in found["completions"]:
        assert "".join(one["pieces"]) == one["text"] != ""
    assert any("\u4e00" <= letter <= "\u9fff" for letter in found["completions"][1]["text"])


def test_shared_experts_have_no_type_there_and_run_as_a_llama(artifact: Any, expected: Any) -> None:
    folder = artifact("minimind2-moe")
    script = str(SCRIPTS / "transformers-js" / "generate.mjs")
    refused = run("transformers-js", [*interpreter("transformers-js"), script, str(folder), "hello"])
    assert "Unsupported model type" in refused.stderr
    assert "transformers.js" not in loads_in(folder)
    found = completions("transformers-js", "generate.mjs", folder, "--as-llama")
    assert [one["token_ids"] for one in found["completions"]] == [tokens for _, tokens in expected("minimind2-moe")]


def loads_in(folder: Any) -> list[str]:
    return json.loads((folder / "manifest.json").read_text())["graphs"][0]["loads_in"]
