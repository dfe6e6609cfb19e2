"""Answers that are held to a schema or to a tool call, from a model that would write random tokens."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from running_server import running
from toy_slots import ToySlots

from minimind_edge.runtime.batch.engine import BatchEngine
from minimind_edge.runtime.model_text import ModelText
from minimind_edge.server.app import create_app

HELLO = [{"role": "user", "content": "Hello"}]
VOCABULARY = 700
"""More ids than the tokenizer has tokens, as in models whose vocabulary is padded."""

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 18, "maximum": 120},
        "email": {"type": "string", "pattern": "^[a-z]{1,8}@[a-z]{1,8}\\.com$"},
        "tags": {"type": "array", "items": {"enum": ["甲", "b", 3, None]}, "minItems": 1, "maxItems": 4},
        "home": {
            "type": "object",
            "properties": {
                "city": {"const": "上海"},
                "floor": {"type": ["integer", "null"], "maximum": 99, "minimum": 0},
            },
            "required": ["city"],
            "additionalProperties": False,
        },
    },
    "required": ["name", "age", "email", "tags", "home"],
    "additionalProperties": False,
}


def is_person(value: Any) -> bool:
    """PERSON, checked by hand."""
    home = value["home"]
    return (
        set(value) == {"name", "age", "email", "tags", "home"}
        and isinstance(value["name"], str)
        and len(value["name"]) <= 12
        and type(value["age"]) is int
        and 18 <= value["age"] <= 120
        and re.fullmatch(r"[a-z]{1,8}@[a-z]{1,8}\.com", value["email"]) is not None
        and 1 <= len(value["tags"]) <= 4
        and all(tag in ("甲", "b", 3, None) for tag in value["tags"])
        and home["city"] == "上海"
        and set(home) <= {"city", "floor"}
        and (home.get("floor") is None or 0 <= home["floor"] <= 99)
    )


SCHEMAS = [
    (PERSON, is_person),
    ({"enum": ["yes", "no"]}, lambda value: value in ("yes", "no")),
    ({"type": "integer", "minimum": 1, "maximum": 31}, lambda value: type(value) is int and 1 <= value <= 31),
    (
        {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 5},
        lambda value: 2 <= len(value) <= 5 and all(type(item) is bool for item in value),
    ),
    (
        {
            "$defs": {
                "t": {
                    "type": "object",
                    "properties": {"x": {"type": "null"}},
                    "required": ["x"],
                    "additionalProperties": False,
                }
            },
            "anyOf": [{"$ref": "#/$defs/t"}, {"type": "string", "maxLength": 5}],
        },
        lambda value: value == {"x": None} or (isinstance(value, str) and len(value) <= 5),
    ),
]

BOOK = {
    "type": "function",
    "function": {
        "name": "book",
        "parameters": {
            "type": "object",
            "properties": {"seats": {"type": "integer", "minimum": 1, "maximum": 9}, "at": {"enum": ["noon", "night"]}},
            "required": ["seats", "at"],
            "additionalProperties": False,
        },
    },
}
STOP = {"type": "function", "function": {"name": "stop"}}


def is_booking(arguments: str) -> bool:
    found = json.loads(arguments)
    return set(found) == {"seats", "at"} and 1 <= found["seats"] <= 9 and found["at"] in ("noon", "night")


@pytest.fixture(scope="module")
def client(minimind3) -> Iterator[openai.OpenAI]:
    """A client of a real engine over a toy model with MiniMind-3's tokenizer."""
    engine = BatchEngine(ToySlots(4, vocab_size=VOCABULARY, max_length=2048), ModelText(*minimind3))
    with (
        running(create_app({"toy": engine})) as address,
        openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0, timeout=60) as client,
    ):
        yield client


def chat(client: openai.OpenAI, **fields: Any) -> Any:
    fields = {"max_tokens": 600, "temperature": 1.5, **fields}
    return client.chat.completions.create(model="toy", messages=HELLO, **fields)


def schema_format(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}


@pytest.mark.parametrize(("schema", "holds"), SCHEMAS)
def test_every_answer_that_ends_follows_its_schema(client, schema, holds) -> None:
    answer = chat(client, n=12, seed=1, response_format=schema_format(schema))
    assert [choice.finish_reason for choice in answer.choices] == ["stop"] * 12
    assert all(holds(json.loads(choice.message.content)) for choice in answer.choices)
    assert len({choice.message.content for choice in answer.choices}) > 1  # the model chooses


def test_a_schema_holds_after_thinking(client) -> None:
    answer = chat(
        client,
        n=8,
        seed=1,
        max_tokens=1500,
        logit_bias={"26": 9},
        response_format=schema_format(PERSON),
        extra_body={"open_thinking": True},
    )
    ended = [choice.message for choice in answer.choices if choice.finish_reason == "stop"]
    assert ended and all(is_person(json.loads(message.content)) for message in ended)
    assert any(getattr(message, "reasoning_content", None) for message in ended)
    assert answer.usage.completion_tokens_details.reasoning_tokens > 0


def test_json_object_gives_an_object(client) -> None:
    answer = chat(client, n=8, seed=1, logit_bias={"95": 8, "4": 8}, response_format={"type": "json_object"})
    ended = [choice.message.content for choice in answer.choices if choice.finish_reason == "stop"]
    assert ended and all(isinstance(json.loads(text), dict) for text in ended)


def test_an_answer_may_be_json_or_a_call(client, minimind3) -> None:
    (opening,) = minimind3[0].encode("<tool_call>", add_special_tokens=False)
    format_ = schema_format(
        {"type": "object", "properties": {"x": {"type": "null"}}, "required": ["x"], "additionalProperties": False}
    )
    answer = chat(
        client,
        n=12,
        seed=1,
        tools=[STOP],
        response_format=format_,
        temperature=6,
        max_tokens=60,
        logit_bias={str(opening): -2},
    )
    reasons = {choice.finish_reason for choice in answer.choices}
    assert {"stop", "tool_calls"} <= reasons
    for choice in answer.choices:
        if choice.finish_reason == "stop":
            assert json.loads(choice.message.content) == {"x": None}
        if choice.finish_reason == "tool_calls":
            assert {call.function.name for call in choice.message.tool_calls} == {"stop"}


def test_a_stream_of_a_schema_is_the_same_json(client) -> None:
    fields = {"seed": 5, "response_format": schema_format(PERSON)}
    whole = chat(client, **fields).choices[0].message.content
    streamed = "".join(each.choices[0].delta.content or "" for each in chat(client, stream=True, **fields))
    assert streamed == whole


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "book"}}])
def test_a_forced_call_is_well_formed(client, choice) -> None:
    answer = chat(client, n=8, seed=1, temperature=8, tools=[BOOK, STOP], tool_choice=choice, parallel_tool_calls=False)
    names = set()
    for each in answer.choices:
        assert each.finish_reason == "tool_calls" and each.message.content is None
        (call,) = each.message.tool_calls
        names.add(call.function.name)
        assert is_booking(call.function.arguments) if call.function.name == "book" else call.function.arguments == "{}"
    assert names == ({"book", "stop"} if choice == "required" else {"book"})


def test_several_forced_calls(client, minimind3) -> None:
    (line_end,) = minimind3[0].encode("\n", add_special_tokens=False)
    bias = {str(line_end): 3}
    answer = chat(client, n=8, seed=2, tools=[BOOK, STOP], tool_choice="required", logit_bias=bias)
    ended = [each.message for each in answer.choices if each.finish_reason == "tool_calls"]
    assert ended and max(len(message.tool_calls) for message in ended) > 1
    assert all(message.content is None for message in ended)


def test_a_strict_function_is_called_by_its_schema_or_not_at_all(client, minimind3) -> None:
    strict = {"type": "function", "function": {**BOOK["function"], "strict": True}}
    (opening,) = minimind3[0].encode("<tool_call>", add_special_tokens=False)
    answer = chat(client, n=8, seed=3, tools=[strict], max_tokens=60, logit_bias={str(opening): 7})
    calls = [call for each in answer.choices for call in each.message.tool_calls or []]
    assert calls and all(is_booking(call.function.arguments) for call in calls)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": schema_format({"type": "nonsense"})}, "response_format"),
        ({"response_format": schema_format({"type": "string", "pattern": "("})}, "response_format"),
        ({"response_format": schema_format({"type": "object", "unevaluatedProperties": False})}, "response_format"),
        ({"response_format": schema_format({"$ref": "https://example.com/x"})}, "response_format"),
        ({"response_format": schema_format({"$ref": "#"})}, "response_format"),
        ({"response_format": schema_format({"not": {}})}, "response_format"),
        ({"response_format": schema_format({"enum": []})}, "response_format"),
        (
            {
                "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "array"}}}],
                "tool_choice": "required",
            },
            "tools",
        ),
        ({"tools": [BOOK], "tool_choice": "required", "response_format": {"type": "json_object"}}, "response_format"),
    ],
)
def test_a_schema_that_cannot_be_enforced_is_refused(client, fields, param) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        chat(client, **fields)
    assert refused.value.param == param


def test_a_schema_may_not_loosen_its_own_enforcement(client) -> None:
    schema = {"enum": ["a", "b"], "x-guidance": {"lenient": True, "whitespace_pattern": "[ ]{100}"}}
    assert json.loads(chat(client, response_format=schema_format(schema)).choices[0].message.content) in ("a", "b")


def test_a_grammar_ends_an_answer_whose_stop_tokens_are_ignored(client) -> None:
    schema = {"type": "object", "properties": {}, "additionalProperties": False}
    answer = chat(client, response_format=schema_format(schema), extra_body={"ignore_eos": True})
    assert answer.choices[0].message.content == "{}" and answer.choices[0].finish_reason == "stop"


def test_a_model_without_a_place_for_tools_says_so(minimind3) -> None:
    from scripted_engine import ScriptedEngine

    from minimind_edge.runtime.text.chat_template import ChatTemplate

    template = ChatTemplate({"default": "{{ messages[0].content }}"})
    with running(create_app({"m": ScriptedEngine(minimind3[0], template, VOCABULARY)})) as address:
        url, body = f"{address}/v1/chat/completions", {"messages": HELLO, "tools": [BOOK]}
        assert httpx.post(url, json=body).json()["error"]["param"] == "tools"
        assert httpx.post(url, json={**body, "tool_choice": "required"}).status_code == 200
