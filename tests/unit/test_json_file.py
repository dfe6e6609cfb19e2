"""Mutated JSON files of an artifact: whatever is in them ends as one line of our own, or is read."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from minimind_edge.runtime.artifact.generation_config import GenerationConfig
from minimind_edge.runtime.artifact.json_file import parse_object
from minimind_edge.runtime.artifact.manifest import Manifest
from minimind_edge.runtime.artifact.model_config import ModelConfig
from minimind_edge.runtime.errors import ArtifactError
from minimind_edge.runtime.sampling import SamplingParams
from minimind_edge.runtime.tensorrt.plan import Plan

MANIFEST: dict[str, Any] = {
    "format": 1,
    "tool": {"name": "minimind-edge", "version": "0.1.0"},
    "checkpoint": {"file": "a.pth", "sha256": "00", "generation": "minimind2", "lora": [{"file": "l", "sha256": "1"}]},
    "architecture": {
        **{"hidden_size": 64, "rope": {"theta": 1e6, "yarn": {"factor": 4.0}}, "moe": {"n_routed_experts": 4}},
        **{"parameters": {"total": 9, "active": 5}},
    },
    "config": {"hidden_size": 64},
    "graphs": [
        {
            **{"file": "onnx/model.onnx", "target": "ort", "precision": "fp32", "opset": 21, "max_length": 512},
            **{"sha256": "ab", "bytes": 12, "loads_in": ["minimind-run"]},
            "parity": {
                "passed": True,
                "logits": {"max_abs": 1e-5, "mean_kl": 1e-9},
                "greedy": {"equal": 9, "total": 9},
            },
        }
    ],
    "default_graph": "onnx/model.onnx",
    "versions": {"onnx": "1.23.2"},
}
GENERATION: dict[str, Any] = {
    **{"bos_token_id": 1, "eos_token_id": [2, 0], "do_sample": True, "temperature": 0.85, "top_p": 0.9, "top_k": 50},
    **{"stop_strings": ["###"], "suppress_tokens": [3], "bad_words_ids": [[4, 5]], "min_new_tokens": 3},
    **{"no_repeat_ngram_size": 3, "presence_penalty": 0.5, "max_new_tokens": 64, "forced_eos_token_id": 2},
}
CONFIG: dict[str, Any] = {"model_type": "llama", "max_position_embeddings": 512, "eos_token_id": 2, "bos_token_id": 1}
PLAN: dict[str, Any] = {
    **{"format": 1, "backend": "rtx", "backend_version": "1.7", "compute_capabilities": ["8.6"], "precision": "fp16"},
    **{"plan": {"bytes": 4, "sha256": "aa"}, "limits": {"batch_size": 1, "length": 32, "chunk": 8}, "vocab_size": 64},
    "eos_token_ids": [2],
    "kv_cache": {
        **{"form": "static", "num_layers": 2, "num_key_value_heads": 2, "head_dim": 16, "capacity": 32},
        "dtype": "float32",
    },
    "profiles": [{"name": "decode", "shapes": {"input_ids": [[1, 1], [1, 1], [1, 1]]}}],
    "tensors": [{"name": "layers.0.moe.topk_indices", "mode": "output", "dtype": "int32", "shape": [-1, -1, 2]}],
    "checkpoint": {"file": "a.pth", "sha256": "aa"},
    "config": {},
    "graph": {"file": "model.onnx", "sha256": "aa", "opset": 24, "parity": {"passed": True}},
}


def read_generation(values: dict[str, Any]) -> object:
    config = GenerationConfig.parse(values)
    return SamplingParams.of_artifact(config, config.eos_token_ids).processors(64)


READERS: dict[str, tuple[dict[str, Any], Callable[[dict[str, Any]], object]]] = {
    "manifest": (MANIFEST, lambda values: Manifest.parse(values, "manifest.json")),
    "generation": (GENERATION, read_generation),
    "config": (CONFIG, ModelConfig.parse),
    "plan": (PLAN, lambda values: Plan.parse(Path("model.plan"), values)),
}
STRANGE = [
    *("null", "true", "-1", "0", "5", "2.0", "2.5", "1e308", "1e999", "-1e999", "NaN", "Infinity", "1" + "0" * 400),
    *("1" + "0" * 5000, "9223372036854775808", '""', '"x"', '"0.7"', '"\\ud800"', '"\\u0000"', '"../x"', "[]", "{}"),
    *("[[]]", "[null]", '{"a": 1}', '"\\u001b[31m\\u202e"', '"' + "n" * 5000 + '"', "[" * 2000 + "]" * 2000),
]
"""JSON texts to put in the place of a value."""


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in items for place in places(item, (*path, key)))][1 if not path else 0 :]


def mutated(values: dict[str, Any], random: random.Random) -> bytes:
    """The file's text with one or two values replaced or removed, or a few bytes changed."""
    values = copy.deepcopy(values)
    replaced = {}
    for _ in range(random.choice((1, 1, 2))):
        *parents, last = random.choice(places(values))
        holder = values
        for key in parents:
            holder = holder[key]
        if random.random() < 0.2:
            del holder[last]
            continue
        mark = f"MARK{len(replaced)}"
        replaced[json.dumps(mark)] = random.choice(STRANGE)
        holder[last] = mark
    text = json.dumps(values)
    for mark, strange in replaced.items():
        text = text.replace(mark, strange)
    data = bytearray(text.encode())
    if random.random() < 0.2:
        for _ in range(random.randint(1, 4)):
            data[random.randrange(len(data))] = random.randrange(256)
    return bytes(data)


@pytest.mark.parametrize("name", READERS)
def test_whatever_is_in_a_file_ends_as_one_line_of_ours(name: str) -> None:
    values, read = READERS[name]
    read(parse_object(json.dumps(values).encode(), name))
    chance = random.Random(20261126)
    refused = 0
    for _ in range(5_000):
        data = mutated(values, chance)
        try:
            read(parse_object(data, f"{name}.json"))
        except ArtifactError as error:
            refused += 1
            assert str(error).isprintable()
            assert len(str(error)) <= 800
    assert refused > 2_000


def test_the_message_names_the_place_what_is_there_and_what_is_expected() -> None:
    with pytest.raises(ArtifactError) as caught:
        Manifest.parse({**MANIFEST, "graphs": [MANIFEST["graphs"][0] | {"precision": 5}]}, "manifest.json")
    assert str(caught.value) == "manifest.json: graphs[0].precision is 5: expected a string"
    with pytest.raises(ArtifactError) as caught:
        Plan.parse(Path("model.plan"), PLAN | {"backend": "cuda"}, "model.plan.json")
    assert str(caught.value) == 'model.plan.json: backend is "cuda": expected one of rtx, tensorrt'
