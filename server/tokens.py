"""`POST /tokenize` and `POST /detokenize`, in the forms of vLLM and of llama.cpp."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from minimind_edge.runtime.errors import InputError, UsageError

from .decoding import decode
from .errors import api_error, bad_request
from .messages import template_messages, template_tools
from .models import ServedModel, ServedModels
from .requests import DetokenizeRequest, TokenizeRequest

_SOURCES = ("prompt", "content", "messages")


async def tokenize(request: Request) -> Response:
    """The token ids of a text or of a conversation, with their number; with their texts where asked for."""
    models: ServedModels = request.app.state.models
    asked = decode(TokenizeRequest, await request.body())
    model = models.choose(asked.model)
    given = [name for name in _SOURCES if getattr(asked, name) is not None]
    if len(given) != 1:
        raise bad_request("expected one of prompt, content and messages", given[1] if given else "prompt")
    if asked.tools and asked.messages is None:
        raise bad_request("tools need messages", "tools", "invalid_value")
    loop = asyncio.get_running_loop()
    answer = await loop.run_in_executor(model.preparation, _tokenize, asked, model, given[0])
    return Response(msgspec.json.encode(answer), media_type="application/json")


async def detokenize(request: Request) -> Response:
    """The text of token ids, under the names of both interfaces."""
    models: ServedModels = request.app.state.models
    asked = decode(DetokenizeRequest, await request.body())
    model = models.choose(asked.model)
    loop = asyncio.get_running_loop()
    text = await loop.run_in_executor(model.preparation, _detokenize, asked, model)
    return Response(msgspec.json.encode({"prompt": text, "content": text}), media_type="application/json")


def _tokenize(asked: TokenizeRequest, model: ServedModel, source: str) -> dict[str, Any]:
    try:
        token_ids = _token_ids(asked, model, source)
    except (InputError, UsageError) as error:
        raise api_error(error, source) from error
    tokens: list[Any] = token_ids
    if asked.with_pieces:
        tokens = [{"id": token, "piece": _piece(*model.texts(token))} for token in token_ids]
    return {"tokens": tokens, "count": len(token_ids), "max_model_len": model.engine.max_length}


def _token_ids(asked: TokenizeRequest, model: ServedModel, source: str) -> list[int]:
    engine = model.engine
    if asked.messages is not None:
        tools = template_tools(asked.tools or [])
        return list(engine.prompts.build(template_messages(asked.messages), tools=tools or None).token_ids)
    if engine.tokenizer is None:
        raise UsageError("this model came without a tokenizer")
    adds = asked.add_special if asked.add_special_tokens is None else asked.add_special_tokens
    if adds is None:
        adds = source == "prompt"
    text = asked.prompt if asked.prompt is not None else asked.content or ""
    return engine.tokenizer.encode_raw(text) if adds else engine.tokenizer.encode(text, add_special_tokens=False)


def _piece(text: str, data: bytes) -> str | list[int]:
    """A token's text, or its bytes where they are only a part of a character, as llama.cpp has it."""
    return text if text.encode() == data else list(data)


def _detokenize(asked: DetokenizeRequest, model: ServedModel) -> str:
    if model.engine.tokenizer is None:
        raise bad_request("this model came without a tokenizer")
    try:
        return model.engine.tokenizer.decode(asked.tokens, skip_special_tokens=False)
    except InputError as error:
        raise api_error(error, "tokens") from error
