"""`/v1/chat/completions` by OpenAI's own client, which checks the shape of what it reads."""

from __future__ import annotations

import json
from typing import Any

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

HELLO = [{"role": "user", "content": "Hello"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'


def chat(client: openai.OpenAI, **fields: Any) -> Any:
    return client.chat.completions.create(model="minimind", messages=fields.pop("messages", HELLO), **fields)


def body(address: str, **fields: Any) -> httpx.Response:
    return httpx.post(f"{address}/v1/chat/completions", json={"messages": HELLO, **fields}, timeout=30)


def chunks(address: str, **fields: Any) -> list[dict[str, Any]]:
    """The chunks of a stream, read by hand; the last event has to be [DONE]."""
    response = body(address, stream=True, **fields)
    assert response.headers["content-type"].startswith("text/event-stream")
    events = response.text.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    return [json.loads(event.removeprefix("data: ")) for event in events[:-2]]


def test_a_whole_answer_has_openai_s_shape(client, follow) -> None:
    engine = follow("Hel", "lo", cached_tokens=3)
    answer = chat(client)
    ChatCompletion.model_validate(answer.model_dump(), strict=True)
    assert answer.object == "chat.completion" and answer.id.startswith("chatcmpl-") and answer.model == "minimind"
    choice = answer.choices[0]
    assert (choice.index, choice.message.role, choice.message.content) == (0, "assistant", "Hello")
    assert choice.finish_reason == "stop" and choice.logprobs is None and choice.message.tool_calls is None
    assert answer.usage.prompt_tokens == len(engine.requests[0].prompt.token_ids)
    assert answer.usage.completion_tokens == len(engine.tickets[0].token_ids)
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.prompt_tokens_details.cached_tokens == 3
    assert answer.usage.completion_tokens_details.reasoning_tokens == 0


def test_a_stream_has_a_role_then_text_then_a_reason(client, address, follow) -> None:
    follow("Hel", 'lo "x"\n', "世界", reason="length")
    found = list(chat(client, stream=True))
    for each in found:
        ChatCompletionChunk.model_validate(each.model_dump(), strict=True)
    assert len({each.id for each in found}) == 1 and {each.object for each in found} == {"chat.completion.chunk"}
    assert found[0].choices[0].delta.role == "assistant"
    assert [each.choices[0].delta.content for each in found[1:-1]] == ["Hel", 'lo "x"\n', "世界"]
    assert [each.choices[0].finish_reason for each in found] == [None] * 4 + ["length"]
    follow("Hi")
    assert all("usage" not in each for each in chunks(address))


def test_a_stream_s_usage_comes_last_and_without_a_choice(address, follow) -> None:
    follow("a", "b", cached_tokens=2)
    found = chunks(address, stream_options={"include_usage": True})
    assert found[-1]["choices"] == [] and found[-1]["usage"]["prompt_tokens_details"] == {"cached_tokens": 2}
    assert all(each["usage"] is None for each in found[:-1])


def test_several_answers_have_seeds_of_their_own(client, follow) -> None:
    engine = follow(pieces=[["one"], ["two", "!"]])
    answer = chat(client, n=2, seed=7)
    assert [choice.message.content for choice in answer.choices] == ["one", "two!"]
    assert [request.params.seed for request in engine.requests] == [7, 8]
    assert answer.usage.prompt_tokens == len(engine.requests[0].prompt.token_ids)
    engine = follow(pieces=[["one"], ["two", "!"]])
    texts = {0: "", 1: ""}
    for each in chat(client, n=2, stream=True):
        texts[each.choices[0].index] += each.choices[0].delta.content or ""
    assert texts == {0: "one", 1: "two!"}
    assert [request.params.seed for request in engine.requests] == [None, None]


def test_sampling_fields_reach_the_engine(client, engine) -> None:
    chat(
        client,
        temperature=0.5,
        top_p=0.9,
        presence_penalty=0.25,
        frequency_penalty=-0.5,
        max_tokens=17,
        stop=["a", "b"],
        extra_body={"top_k": 5, "min_p": 0.1, "repetition_penalty": 1.2, "stop_token_ids": [9], "min_tokens": 3},
    )
    request = engine.requests[0]
    params = request.params
    assert (params.temperature, params.top_p, params.top_k, params.min_p) == (0.5, 0.9, 5, 0.1)
    assert (params.presence_penalty, params.frequency_penalty, params.repetition_penalty) == (0.25, -0.5, 1.2)
    assert request.max_new_tokens == 17 and request.stop == ("a", "b") and request.stop_token_ids == {2, 9}
    assert params.min_new_tokens == 3 and set(params.eos_token_ids) == {2, 9}


def test_the_limit_of_tokens_has_two_names_and_the_model_s_default(client, engine, address) -> None:
    chat(client)
    chat(client, max_completion_tokens=5)
    chat(client, max_tokens=6, max_completion_tokens=6)
    assert [request.max_new_tokens for request in engine.requests] == [100, 5, 6]
    error = body(address, max_tokens=6, max_completion_tokens=7).json()["error"]
    assert error["param"] == "max_completion_tokens"


def test_ignore_eos_and_top_k_of_all(client, engine) -> None:
    chat(client, stop="x", extra_body={"ignore_eos": True, "top_k": -1})
    assert engine.requests[0].stop_token_ids == frozenset()
    assert engine.requests[0].params.top_k == 0 and engine.requests[0].stop == ("x",)


def test_logit_bias_is_by_token_id(client, engine, address) -> None:
    chat(client, logit_bias={"5": 2, "7": -100})
    assert dict(engine.requests[0].params.logit_bias) == {5: 2.0, 7: -100.0}
    for key in ("x", "6400", "-1", "99999999999", "٣"):
        assert body(address, logit_bias={key: 1}).json()["error"]["param"] == "logit_bias"


def test_logprobs_of_a_whole_answer_cover_its_text(client, follow, minimind3) -> None:
    engine = follow("Hello", " 世")
    content = chat(client, logprobs=True, top_logprobs=2).choices[0].logprobs.content
    assert engine.requests[0].top_logprobs == 2
    assert b"".join(bytes(each.bytes) for each in content).decode() == "Hello 世"
    assert [each.logprob for each in content] == [-0.25] * len(content)
    tokenizer = minimind3[0]
    assert [each.token for each in content[0].top_logprobs] == [tokenizer.decode([300]), tokenizer.decode([301])]
    assert [each.logprob for each in content[0].top_logprobs] == [-3.0, -3.01]
    engine = follow("a")
    assert chat(client, logprobs=True).choices[0].logprobs.content[0].top_logprobs == []
    assert engine.requests[0].top_logprobs == 0


@pytest.mark.parametrize("pieces", [("Hello", " 世"), ("Let me see. ", "<tool_", CALL.removeprefix("<tool_"))])
def test_logprobs_of_a_stream_are_those_of_the_whole_answer(client, follow, pieces) -> None:
    follow(*pieces)
    whole = chat(client, logprobs=True, top_logprobs=1, tools=[WEATHER]).choices[0].logprobs.content
    streamed = []
    for each in chat(client, logprobs=True, top_logprobs=1, tools=[WEATHER], stream=True):
        found = each.choices[0].logprobs
        streamed += [] if found is None else found.content
    assert streamed == whole and len(whole) > len(pieces)


def test_thinking_becomes_reasoning_content(client, follow) -> None:
    engine = follow("\nFirst", ", this.\n</th", "ink>\n\nThen", " that.")
    answer = chat(client, extra_body={"chat_template_kwargs": {"open_thinking": True}})
    assert engine.requests[0].prompt.opens_thinking
    message = answer.choices[0].message
    assert (message.reasoning_content, message.content) == ("First, this.\n", "Then that.")
    reasoning = answer.usage.completion_tokens_details.reasoning_tokens
    assert 0 < reasoning < answer.usage.completion_tokens
    reasons, contents = "", ""
    for each in chat(client, stream=True, extra_body={"enable_thinking": True}):
        reasons += getattr(each.choices[0].delta, "reasoning_content", None) or ""
        contents += each.choices[0].delta.content or ""
    assert (reasons, contents) == ("First, this.\n", "Then that.")


@pytest.mark.parametrize(
    ("fields", "thinks"),
    [
        ({}, False),
        ({"open_thinking": True}, True),
        ({"enable_thinking": True}, True),
        ({"chat_template_kwargs": {"enable_thinking": True}}, True),
        ({"chat_template_kwargs": {"open_thinking": True}, "reasoning_effort": "none"}, True),
        ({"enable_thinking": False, "reasoning_effort": "high"}, False),
        ({"reasoning_effort": "medium"}, True),
        ({"reasoning_effort": "low"}, True),
        ({"reasoning_effort": "minimal"}, False),
        ({"reasoning_effort": "none"}, False),
    ],
)
def test_each_way_to_ask_for_thinking(address, engine, fields, thinks) -> None:
    assert body(address, **fields).status_code == 200
    assert engine.requests[0].prompt.opens_thinking is thinks


def test_a_tool_call_of_a_whole_answer(client, follow) -> None:
    follow("I look. ", '\n<tool_call>\n{"name": "get_weather", ', '"arguments": {"city": "Paris"}}\n</tool_call>')
    choice = chat(client, tools=[WEATHER]).choices[0]
    assert choice.finish_reason == "tool_calls" and choice.message.content == "I look."
    (call,) = choice.message.tool_calls
    assert call.type == "function" and call.id.startswith("call_") and call.function.name == "get_weather"
    assert json.loads(call.function.arguments) == {"city": "Paris"}
    follow(CALL)
    assert chat(client, tools=[WEATHER]).choices[0].message.content is None


def test_a_streamed_tool_call_names_itself_and_then_its_arguments(client, follow) -> None:
    follow(CALL[:20], CALL[20:] + "\n" + CALL)
    deltas = [each.choices[0].delta for each in chat(client, tools=[WEATHER], stream=True)]
    calls = [delta.tool_calls[0] for delta in deltas if delta.tool_calls]
    assert [(call.index, call.function.name, bool(call.id)) for call in calls] == [
        (0, "get_weather", True),
        (0, None, False),
        (1, "get_weather", True),
        (1, None, False),
    ]
    assert json.loads(calls[1].function.arguments) == {"city": "Paris"}
    assert not any(delta.content for delta in deltas)


def test_a_malformed_call_stays_text(client, follow) -> None:
    broken = '<tool_call>\n{"name": "get_weather", "arguments": }\n</tool_call> Sorry.'
    follow(broken[:30], broken[30:])
    choice = chat(client, tools=[WEATHER]).choices[0]
    assert choice.message.content == broken and choice.message.tool_calls is None and choice.finish_reason == "stop"
    follow('<tool_call>{"name":', reason="length")
    choice = chat(client, tools=[WEATHER]).choices[0]
    assert choice.message.content == '<tool_call>{"name":' and choice.finish_reason == "length"


def test_without_tools_a_call_is_text(client, follow) -> None:
    follow(CALL)
    assert chat(client).choices[0].message.content == CALL
    assert chat(client, tools=[WEATHER], tool_choice="none").choices[0].message.content == CALL


def test_one_call_ends_an_answer_without_parallel_calls(client, follow) -> None:
    engine = follow(CALL, "\n" + CALL, "never sent", holds=True)
    engine.go.release(1)
    choice = chat(client, tools=[WEATHER], parallel_tool_calls=False).choices[0]
    assert len(choice.message.tool_calls) == 1 and choice.finish_reason == "tool_calls"
    assert engine.cancelled == engine.tickets


def test_tools_and_earlier_calls_are_shown_to_the_model(client, engine, minimind3) -> None:
    messages = [
        {"role": "developer", "content": [{"type": "text", "text": "Be "}, {"type": "text", "text": "brief."}]},
        {"role": "user", "content": "Weather?"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "X"}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    ]
    chat(client, messages=messages, tools=[WEATHER])
    tokenizer, template = minimind3
    plain = [{"role": "system", "content": "Be brief."}, *messages[1:]]
    expected = template.render(plain, tools=[WEATHER], add_generation_prompt=True)
    assert tokenizer.decode(engine.requests[0].prompt.token_ids, skip_special_tokens=False) == expected
    assert '"arguments": {"city": "X"}' in expected and "sunny" in expected


def test_an_answer_may_be_sent_back_as_the_client_holds_it(client, follow) -> None:
    engine = follow(CALL)
    message = chat(client, tools=[WEATHER]).choices[0].message.model_dump()
    chat(client, messages=[*HELLO, message, {"role": "tool", "content": "sunny"}], tools=[WEATHER])
    assert len(engine.requests) == 2


@pytest.mark.parametrize(
    "fields",
    [
        {"user": "me", "metadata": {"a": "b"}, "store": False, "service_tier": "auto", "safety_identifier": "x"},
        {"parallel_tool_calls": True, "stream": False, "n": 1, "logprobs": False, "modalities": ["text"]},
        {"response_format": {"type": "text"}, "stop": None, "temperature": None, "logit_bias": None, "tools": None},
        {"tools": [], "prompt_cache_key": "x"},
    ],
)
def test_fields_that_clients_send_without_harm(address, engine, fields) -> None:
    assert body(address, **fields).status_code == 200


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"foo": 1}, "foo"),
        ({"store": True}, "store"),
        ({"modalities": ["text", "audio"]}, "modalities[1]"),
        ({"modalities": ["audio"]}, "modalities[0]"),
        ({"audio": {"voice": "x", "format": "wav"}}, "audio"),
        ({"n": 65}, "n"),
        ({"n": 0}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": 1.5}, "top_p"),
        ({"top_logprobs": 21, "logprobs": True}, "top_logprobs"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"stop": ""}, "stop"),
        ({"stop": ["a", ""]}, "stop[1]"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        (
            {"stream": True, "stream_options": {"include_obfuscation": True}},
            "stream_options.include_obfuscation",
        ),
        ({"service_tier": "priority"}, "service_tier"),
        ({"functions": []}, "functions"),
        ({"prediction": {}}, "prediction"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [{"type": "custom"}]}, "tools[0].type"),
        (
            {"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "x"}}},
            "tool_choice.function.name",
        ),
        ({"response_format": {"type": "grammar"}}, "response_format.type"),
        ({"chat_template_kwargs": {"thinking_budget": 3}}, "chat_template_kwargs.thinking_budget"),
        ({"reasoning_effort": "huge"}, "reasoning_effort"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "messages[0].content[0].type",
        ),
    ],
)
def test_what_is_not_supported_is_named(address, engine, fields, param) -> None:
    response = body(address, **fields)
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["param"] == param and error["type"] == "invalid_request_error" and error["message"]
    assert engine.requests == []


def test_a_prompt_longer_than_the_context_is_refused(client, engine) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        chat(client, messages=[{"role": "user", "content": "word " * 3000}])
    assert refused.value.code == "context_length_exceeded" and refused.value.param == "messages"
