"""Random bodies of requests: from valid ones to those that no client would send."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

ODD = (
    None, True, False, 0, -1, 1, 2, 1.5, -0.0, 1e308, 2**31, 2**63, 10**400, "", "a", "\x00", "\ud800", "中文" * 50,
    [], [[]], {}, {"type": "x"}, [None], ["a", 1], {"": {}}, "x" * 5000,
)  # fmt: skip
"""Values that a field may not expect."""

SCHEMAS = (
    {},
    {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
    {"type": "array", "items": {"$ref": "#"}},
    {"$ref": "#/nowhere"},
    {"type": "string", "pattern": "(a+)+$"},
    {"enum": []},
    {"type": "nothing"},
)


def messages(draw: random.Random) -> list[Any]:
    """A conversation."""
    words = ("Who are you?", "法国的首都是哪里？", "<think>", "<tool_call>{}</tool_call>", "\n", "a" * 300)
    roles = ("user", "system", "assistant", "tool", "developer")
    return [
        {"role": draw.choice(roles[:1] if draw.random() < 0.7 else roles), "content": draw.choice(words)}
        for _ in range(draw.choice((1, 1, 1, 2, 5)))
    ]


def tools(draw: random.Random) -> list[Any]:
    """A few functions."""
    names = ("get_weather", "f", "a-b")
    return [
        {"type": "function", "function": {"name": draw.choice(names), "parameters": draw.choice(SCHEMAS)}}
        for _ in range(draw.choice((1, 2)))
    ]


FIELDS: dict[str, Callable[[random.Random], Any]] = {
    "model": lambda draw: draw.choice(("demo", "other")),
    "n": lambda draw: draw.choice((1, 2, 3)),
    "stream": lambda draw: draw.choice((True, False)),
    "stream_options": lambda draw: {"include_usage": draw.choice((True, False))},
    "stop": lambda draw: draw.choice(("a", ["\n", "。"], "")),
    "seed": lambda draw: draw.randrange(100),
    "temperature": lambda draw: draw.choice((0, 0.5, 1.0, 3.0)),
    "top_p": lambda draw: draw.random(),
    "top_k": lambda draw: draw.choice((0, -1, 1, 50)),
    "min_p": lambda draw: draw.random(),
    "repetition_penalty": lambda draw: draw.choice((0.5, 1.0, 1.3)),
    "presence_penalty": lambda draw: draw.uniform(-2, 2),
    "frequency_penalty": lambda draw: draw.uniform(-2, 2),
    "logit_bias": lambda draw: {str(draw.randrange(5000)): draw.uniform(-100, 100)},
    "logprobs": lambda draw: draw.choice((True, False)),
    "top_logprobs": lambda draw: draw.randrange(21),
    "tools": tools,
    "tool_choice": lambda draw: draw.choice(("auto", "none", "required")),
    "response_format": lambda draw: {"type": "json_schema", "json_schema": {"schema": draw.choice(SCHEMAS)}},
    "enable_thinking": lambda draw: draw.choice((True, False)),
    "reasoning_effort": lambda draw: draw.choice(("low", "none", "strange")),
    "ignore_eos": lambda draw: draw.choice((True, False)),
    "min_tokens": lambda draw: draw.randrange(20),
    "unknown_field": lambda draw: 1,
}


def random_request(draw: random.Random) -> tuple[str, bytes]:
    """A path and a body: half of the bodies are changed at a random place, some are no JSON.

    Args:
        draw: The source of all choices.
    """
    path = draw.choice(("/v1/chat/completions",) * 3 + ("/v1/completions", "/tokenize", "/detokenize"))
    body: dict[str, Any] = {"max_tokens": draw.choice((1, 2, 8))}
    if "chat" in path:
        body["messages"] = messages(draw)
    elif path == "/v1/completions":
        body["prompt"] = draw.choice(("a", "", ["a", "b"], [1, 2, 3], [[1], [2]], [10**9]))
    else:
        body = {"content": "a b 中"} if path == "/tokenize" else {"tokens": draw.choice(([], [1, 2], [99999], [-1]))}
    for name in draw.sample(sorted(FIELDS), draw.choice((0, 1, 2, 5))):
        body[name] = FIELDS[name](draw)
    if draw.random() < 0.5:
        changed(body, draw)
    text = json.dumps(body).encode()
    if draw.random() < 0.1:
        text = bytearray(text)
        for _ in range(draw.choice((1, 3))):
            text[draw.randrange(len(text))] = draw.randrange(256)
        text = bytes(text[: draw.randrange(len(text) + 1)]) if draw.random() < 0.3 else bytes(text)
    return path, text


def changed(value: Any, draw: random.Random) -> None:
    """Change one value inside a structure, at any depth."""
    while True:
        if not value:
            return
        keys = list(value) if isinstance(value, dict) else range(len(value))
        key = draw.choice(list(keys))
        if isinstance(value[key], (dict, list)) and value[key] and draw.random() < 0.6:
            value = value[key]
        else:
            value[key] = draw.choice(ODD)
            return
