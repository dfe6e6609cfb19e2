"""llama-server's interface in terms of OpenAI's: requests one way, answers the other.

What llama.cpp's tests ask for and OpenAI's interface has under another name is translated; what only llama.cpp has, and
a test asserts on its way to something else, is supplied: its build number, and the null content of a stream's start.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

BUILD = "b0"
"""Stands for llama.cpp's build number, which it gives as `system_fingerprint`."""

NATIVE = ("/completion", "/completions")
"""The paths of llama-server's own completions; `/v1/completions` is OpenAI's."""

GENERATING = ("/v1/completions", "/v1/chat/completions")

WITHOUT_MEANING = ("cache_prompt", "id_slot", "return_tokens")
"""Fields of llama-server without a counterpart: prefixes are always looked for, and no request chooses its slot."""

PLENTY = 1_000_000
"""Tokens of an answer that nothing but the context ends."""

Json = dict[str, Any]


def openai_path(path: str) -> str:
    """OpenAI's path for one of llama-server's, which has each of them without `/v1` as well."""
    if path in NATIVE:
        return "/v1/completions"
    return f"/v1{path}" if path in ("/chat/completions", "/models") else path


def openai_request(path: str, data: Json, defaults: Mapping[str, Any]) -> Json:
    """The body of a request to OpenAI's path.

    Args:
        path: llama-server's path.
        data: The body for llama-server.
        defaults: The fields that llama-server has from its command line where a request does not give them.
    """
    if openai_path(path) not in GENERATING:
        return data
    body = {name: value for name, value in {**defaults, **data}.items() if name not in WITHOUT_MEANING}
    number = body.pop("n_predict", None)
    if number is not None and not {"max_tokens", "max_completion_tokens"} & set(data):
        body["max_tokens"] = PLENTY if number < 0 else number
    bias = body.get("logit_bias")
    if bias is not None:
        body["logit_bias"] = {str(token): value for token, value in (bias.items() if isinstance(bias, dict) else bias)}
    if body.get("stream") and path in NATIVE:
        body["stream_options"] = {"include_usage": True}
    return body


def llama_answer(path: str, body: Any, context: int) -> Any:
    """The body of a whole answer, as llama-server gives it.

    Args:
        path: llama-server's path.
        body: The body of OpenAI's form.
        context: Number of positions of a slot.
    """
    if not isinstance(body, dict) or "choices" not in body:
        return body
    if path not in NATIVE:
        return supplied(body)
    answers = [
        {"content": each["text"], "tokens": [], "has_new_line": "\n" in each["text"], **_end(each, body, context)}
        for each in body["choices"]
    ]
    return answers[0] if len(answers) == 1 else answers


def llama_event(path: str, event: Json, context: int) -> Json:
    """An event of a stream, as llama-server gives it."""
    if path not in NATIVE:
        return supplied(event)
    if event["choices"]:
        return {"content": event["choices"][0]["text"], "tokens": [0], "stop": False}
    return {"content": "", "tokens": [], **_end({"finish_reason": "length"}, event, context)}


def supplied(body: Json) -> Json:
    """An answer or an event with what only llama.cpp has; at the beginning of an answer, OpenAI has an empty text."""
    if "choices" not in body:
        return body
    for choice in body["choices"]:
        if choice.get("delta", {}).get("content") == "":
            choice["delta"]["content"] = None
    return {**body, "system_fingerprint": BUILD}


def supplied_bytes(content: bytes) -> bytes:
    """The same for the bytes of an answer, whole or as a stream."""
    if content.startswith(b"{"):
        return json.dumps(supplied(json.loads(content))).encode()
    lines = content.split(b"\n")
    return b"\n".join(
        b"data: " + json.dumps(supplied(json.loads(line[6:]))).encode() if line.startswith(b"data: {") else line
        for line in lines
    )


def _end(choice: Json, body: Json, context: int) -> Json:
    """What llama-server tells at the end of an answer."""
    usage = body["usage"]
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    timings = {
        "prompt_n": usage["prompt_tokens"] - cached,
        "cache_n": cached,
        "predicted_n": usage["completion_tokens"],
    }
    is_full = choice["finish_reason"] == "length" and usage["total_tokens"] >= context
    return {"stop": True, "truncated": is_full, "timings": timings}
