"""The whole way from HTTP to the model: the bundled demo as it is served, against the engine alone and torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest
import torch
from running_server import running

from minimind_edge.export.bundled import bundled_checkpoint
from minimind_edge.minimind import load_checkpoint
from minimind_edge.runtime import Engine
from minimind_edge.runtime.batch.engine import BatchEngine
from minimind_edge.server.app import create_app

MAX_LENGTH = 256
QUESTION = [{"role": "user", "content": "讲一个关于小猫的故事。"}]


@pytest.fixture(scope="module")
def artifact(export_demo: Callable[..., Path]) -> Path:
    return export_demo(target="ort", max_length=MAX_LENGTH)


@pytest.fixture(scope="module")
def alone(artifact: Path) -> Engine:
    return Engine.load(artifact, threads=1)


@pytest.fixture(scope="module")
def client(artifact: Path) -> Iterator[openai.OpenAI]:
    engine = BatchEngine.load(artifact, slots=4, threads=1, queue=64)
    with (
        running(create_app({"demo": engine})) as address,
        openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0, timeout=120) as client,
    ):
        yield client


def chat(client: openai.OpenAI, messages: Any = QUESTION, **fields: Any) -> Any:
    return client.chat.completions.create(model="demo", messages=messages, **fields)


def test_answers_are_those_of_the_engine_alone(client, alone) -> None:
    expected = alone.generate(QUESTION, greedy=True, max_new_tokens=40)
    answer = chat(client, temperature=0, max_tokens=40)
    assert answer.choices[0].message.content == expected.text
    assert answer.usage.completion_tokens == len(expected.token_ids)
    seeded = alone.generate(QUESTION, seed=3, temperature=0.9, top_p=0.9, max_new_tokens=40).text
    fields = {"seed": 3, "temperature": 0.9, "top_p": 0.9, "max_tokens": 40}
    assert chat(client, **fields).choices[0].message.content == seeded
    assert "".join(each.choices[0].delta.content or "" for each in chat(client, stream=True, **fields)) == seeded
    raw = alone.generate("Once upon a time", raw=True, greedy=True, max_new_tokens=16).text
    assert client.completions.create(model="demo", prompt="Once upon a time", temperature=0).choices[0].text == raw


def test_many_clients_at_once_get_the_same(client) -> None:
    def ask(seed: int) -> str:
        fields = {"seed": seed, "temperature": 1.0, "max_tokens": 24}
        if seed % 2:
            return "".join(each.choices[0].delta.content or "" for each in chat(client, stream=True, **fields))
        return chat(client, **fields).choices[0].message.content

    one_by_one = [ask(seed) for seed in range(6)]
    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(ask, [*range(6), *range(6)])) == one_by_one * 2


def test_a_second_turn_reuses_the_first(client) -> None:
    first = chat(client, temperature=0, max_tokens=30)
    messages = [
        *QUESTION,
        {"role": "assistant", "content": first.choices[0].message.content},
        {"role": "user", "content": "谢谢！"},
    ]
    second = chat(client, messages, temperature=0, max_tokens=4)
    assert second.usage.prompt_tokens_details.cached_tokens >= first.usage.prompt_tokens // 2


def test_the_context_s_end_has_the_reason_length(client) -> None:
    answer = chat(client, max_tokens=100_000, temperature=0, extra_body={"ignore_eos": True})
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.total_tokens in (MAX_LENGTH, MAX_LENGTH + 1)  # the last token needs no position
    with pytest.raises(openai.BadRequestError) as refused:
        chat(client, [{"role": "user", "content": "猫" * 400}])
    assert refused.value.code == "context_length_exceeded"


def test_logprobs_are_those_of_eager_torch(client, alone) -> None:
    content = chat(client, temperature=0, max_tokens=3, logprobs=True, top_logprobs=5).choices[0].logprobs.content
    prompt = alone.prompts.build(QUESTION).token_ids
    model = load_checkpoint(bundled_checkpoint(moe=False))
    answer = alone.generate(QUESTION, greedy=True, max_new_tokens=3).token_ids
    with torch.no_grad():
        logits = model(torch.tensor([[*prompt, *answer[:-1]]])).logits[0, len(prompt) - 1 :]
    expected = torch.log_softmax(logits.float(), dim=-1)
    for row, token, found in zip(expected, answer, content, strict=True):
        assert found.logprob == pytest.approx(float(row[token]), abs=1e-3)  # fp32 in another order of sums
        assert [each.logprob for each in found.top_logprobs] == pytest.approx(row.topk(5).values.tolist(), abs=1e-3)


def test_schema_answers_of_the_demo_parse_at_any_temperature(client) -> None:
    schema = {
        "type": "object",
        "properties": {
            "animal": {"enum": ["cat", "dog", "狐狸"]},
            "legs": {"type": "integer", "minimum": 0, "maximum": 8},
        },
        "required": ["animal", "legs"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "animal", "schema": schema}}
    for temperature in (0, 1, 3):
        answer = chat(client, n=8, seed=1, temperature=temperature, max_tokens=60, response_format=form)
        for choice in answer.choices:
            found = json.loads(choice.message.content)
            assert choice.finish_reason == "stop" and set(found) == {"animal", "legs"}
            assert found["animal"] in ("cat", "dog", "狐狸") and 0 <= found["legs"] <= 8
