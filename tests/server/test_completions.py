"""`/v1/completions` by OpenAI's own client, which checks the shape of what it reads."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from openai.types import Completion


def body(address: str, **fields: Any) -> httpx.Response:
    return httpx.post(f"{address}/v1/completions", json={"prompt": "Once", **fields}, timeout=30)


def test_a_whole_answer_has_openai_s_shape(client, follow, minimind3) -> None:
    engine = follow(" upon", " a time", reason="length")
    answer = client.completions.create(model="minimind", prompt="Once")
    Completion.model_validate(answer.model_dump(), strict=True)
    assert answer.object == "text_completion" and answer.id.startswith("cmpl-")
    choice = answer.choices[0]
    assert (choice.index, choice.text, choice.finish_reason, choice.logprobs) == (0, " upon a time", "length", None)
    assert list(engine.requests[0].prompt.token_ids) == minimind3[0].encode_raw("Once")
    assert answer.usage.completion_tokens == len(engine.tickets[0].token_ids)


def test_openai_s_default_for_the_most_tokens(client, engine) -> None:
    client.completions.create(model="minimind", prompt="Once")
    client.completions.create(model="minimind", prompt="Once", max_tokens=40)
    assert [request.max_new_tokens for request in engine.requests] == [16, 40]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("Once", ["Once"]),
        (["Once", "Twice"], ["Once", "Twice"]),
        ([300, 301], [[300, 301]]),
        ([[300], [301, 302]], [[300], [301, 302]]),
    ],
)
def test_each_form_of_a_prompt(client, engine, minimind3, prompt, expected) -> None:
    answer = client.completions.create(model="minimind", prompt=prompt)
    assert [choice.index for choice in answer.choices] == list(range(len(expected)))
    ids = [item if isinstance(item, list) else minimind3[0].encode_raw(item) for item in expected]
    assert [list(request.prompt.token_ids) for request in engine.requests] == ids
    assert answer.usage.prompt_tokens == sum(map(len, ids))


def test_answers_come_prompt_by_prompt(client, follow) -> None:
    engine = follow(pieces=[["a"], ["b"], ["c"], ["d"]])
    answer = client.completions.create(model="minimind", prompt=["one", "two"], n=2, best_of=2, echo=True, seed=1)
    assert [choice.text for choice in answer.choices] == ["onea", "oneb", "twoc", "twod"]
    assert [request.params.seed for request in engine.requests] == [1, 2, 1, 2]
    prompts = [len(request.prompt.token_ids) for request in engine.requests]
    assert answer.usage.prompt_tokens == prompts[0] + prompts[2]


def test_a_stream_gives_the_same_text(client, follow) -> None:
    follow(pieces=[[" up", "on"], [" more"]], reason="length")
    found = list(
        client.completions.create(
            model="minimind", prompt=["a", "b"], stream=True, echo=True, stream_options={"include_usage": True}
        )
    )
    texts, reasons = {0: "", 1: ""}, {}
    for each in found[:-1]:
        choice = each.choices[0]
        texts[choice.index] += choice.text
        reasons[choice.index] = choice.finish_reason or reasons.get(choice.index)
    assert texts == {0: "a upon", 1: "b more"} and reasons == {0: "length", 1: "length"}
    assert found[-1].choices == [] and found[-1].usage.total_tokens > 0


def test_logprobs_have_openai_s_older_form(client, follow, minimind3) -> None:
    follow("世", " a")
    whole = client.completions.create(model="minimind", prompt="x", logprobs=2).choices[0].logprobs
    tokenizer = minimind3[0]
    ids = tokenizer.encode("世", add_special_tokens=False) + tokenizer.encode(" a", add_special_tokens=False)
    assert len(ids) == len(whole.tokens) == len(whole.text_offset) and whole.token_logprobs == [-0.25] * len(ids)
    # The tokens of one character lie at its place; a token that follows lies after it.
    assert whole.text_offset[0] == 0 and whole.text_offset[-1] in (1, 2)
    for chosen, top in zip(whole.tokens, whole.top_logprobs, strict=True):
        assert top[chosen] == -0.25 and top[tokenizer.decode([300])] == -3.0
    streamed: dict[str, list[Any]] = {"tokens": [], "token_logprobs": [], "text_offset": [], "top_logprobs": []}
    for each in client.completions.create(model="minimind", prompt="x", logprobs=2, stream=True):
        for name, values in streamed.items():
            values.extend(getattr(each.choices[0].logprobs, name))
    assert streamed == {name: getattr(whole, name) for name in streamed}
    follow("a")
    whole = client.completions.create(model="minimind", prompt="x", logprobs=0).choices[0].logprobs
    assert whole.top_logprobs == [{"a": -0.25}]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"suffix": "end"}, "suffix"),
        ({"best_of": 2}, "best_of"),
        ({"echo": True, "logprobs": 1}, "logprobs"),
        ({"logprobs": 21}, "logprobs"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [300, "x"]}, "prompt"),
        ({"prompt": [[300], 301]}, "prompt"),
        ({"prompt": [[]]}, "prompt"),
        ({"prompt": ["x"] * 65}, "prompt"),
        ({"prompt": ["x"] * 33, "n": 2}, "n"),
        ({"prompt": None}, "prompt"),
        ({"messages": []}, "messages"),
        ({"tools": []}, "tools"),
    ],
)
def test_what_is_not_supported_is_named(address, engine, fields, param) -> None:
    response = body(address, **fields)
    assert response.status_code == 400 and response.json()["error"]["param"] == param
    assert engine.requests == []


def test_an_empty_suffix_is_none(address, engine) -> None:
    assert body(address, suffix="", best_of=1, logprobs=None).status_code == 200
