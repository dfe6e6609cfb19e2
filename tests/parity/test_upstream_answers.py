"""Checkpoints as upstream's own trainers and converters leave them answer as they do in upstream's own inference.

`tests/data/upstream` holds the checkpoints, and what upstream's code answered to each prompt: greedy, in float32.
Nothing of this project took part in making them (see the README there).
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from minimind_edge.export.pipeline import export_onnx
from minimind_edge.export.request import ExportRequest
from minimind_edge.runtime import Engine

DATA = Path(__file__).resolve().parent.parent / "data" / "upstream"
GENERATIONS = ("minimind2-2025-10", "minimind2-2026-01", "minimind3-2026-08")
TARGETS = ("portable", "ort", "tensorrt")
ANSWERS = {name: json.loads((DATA / name / "answers.json").read_text("utf-8")) for name in GENERATIONS}
SOURCES = [(generation, name) for generation, answers in ANSWERS.items() for name in answers]


def request(generation: str, name: str, output: Path, target: str, precision: str) -> ExportRequest:
    """The export of a source, named as its answers are: `file`, `folder`, or `file + adapter`."""
    folder = DATA / generation
    checkpoint, *adapters = name.split(" + ")
    heads = folder / "heads.json"
    return ExportRequest(
        checkpoint=folder / checkpoint,
        output=output,
        target=target,
        precision=precision,
        lora=tuple(folder / adapter for adapter in adapters),
        config=heads if heads.exists() and checkpoint.endswith(".pth") else None,
        max_length=1024,
        verify=False,
    )


def answer(engine: Engine, row: dict) -> tuple[list[int], list[int]]:
    """Token ids of the prompt, as this project renders it, and of the greedy answer."""
    flags = row.get("flags", {})
    thinking = flags.get("open_thinking", flags.get("enable_thinking"))
    options = {"max_new_tokens": len(row["out"]), "params": engine.sampling_params(greedy=True)}
    if row["kind"] == "pretrain":
        prompt = engine.prompts.build(row["prompt"], raw=True)
    else:
        prompt = engine.prompts.build(row["messages"], tools=row.get("tools"), thinking=thinking)
    return list(prompt.token_ids), list(engine.generate(prompt, **options).token_ids)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize(("generation", "name"), SOURCES, ids=lambda word: word.replace(" ", ""))
def test_greedy_answers_are_upstreams(tmp_path, generation, name, precision):
    rows = ANSWERS[generation][name]
    assert rows
    wrong = []
    for target in TARGETS:
        export_onnx(request(generation, name, tmp_path / target, target, precision))
        engine = Engine.load(tmp_path / target, device="cpu", threads=1)
        for row in rows:
            ids, out = answer(engine, row)
            if ids != row["ids"] or out != row["out"]:
                wrong.append((target, row["kind"], row["text"][-60:], ids == row["ids"], out, row["out"]))
    assert wrong == []


def test_the_data_covers_every_form_and_kind():
    kinds = {row["kind"] for answers in ANSWERS.values() for rows in answers.values() for row in rows}
    assert kinds >= {"chat", "thinking on", "thinking off", "several turns", "tools", "tool result", "pretrain"}
    names = {name for answers in ANSWERS.values() for name in answers}
    assert names >= {"full_sft_64.pth", "full_sft_64_moe.pth", "full_sft_64.pth + lora_identity_64.pth"}
    assert names >= {"pretrain_64.pth", "pretrain_64_resume.pth", "llama", "minimind", "qwen3", "qwen3_moe"}


def test_the_adapter_changes_answers():
    for answers in ANSWERS.values():
        plain = {row["text"]: row["out"] for row in answers["full_sft_64.pth"]}
        tuned = {row["text"]: row["out"] for row in answers["full_sft_64.pth + lora_identity_64.pth"]}
        assert any(out != plain.get(text, out) for text, out in tuned.items())
