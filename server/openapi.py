"""`GET /openapi.json`: the OpenAPI document of the endpoints, from the types that requests are checked by."""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from .requests import ChatRequest, CompletionRequest, DetokenizeRequest, TokenizeRequest

_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}

_POSTS: dict[str, tuple[type[msgspec.Struct], str, bool, list[str]]] = {
    "/v1/chat/completions": (
        ChatRequest,
        "Answer a conversation",
        True,
        ["id", "object", "created", "model", "choices", "usage"],
    ),
    "/v1/completions": (
        CompletionRequest,
        "Complete texts",
        True,
        ["id", "object", "created", "model", "choices", "usage"],
    ),
    "/tokenize": (TokenizeRequest, "The token ids of a text or of a conversation", False, ["tokens", "count"]),
    "/detokenize": (DetokenizeRequest, "The text of token ids", False, ["prompt", "content"]),
}
"""Of each endpoint with a body: its type, what it does, whether it streams, and what its answer holds."""

_GETS: dict[str, tuple[str, list[str]]] = {
    "/v1/models": ("The served models", ["object", "data"]),
    "/v1/models/{model}": ("One served model", ["id", "object", "created", "owned_by"]),
    "/health": ("Whether the server answers", ["status"]),
}

_REFUSALS = {
    "400": "A field is missing, unknown, of the wrong type or out of its range",
    "404": "No such model",
    "429": "As many requests wait as may",
    "500": "The model failed",
    "503": "The server is being shut down",
}


async def openapi(request: Request) -> Response:
    """The OpenAPI document."""
    return Response(_document(), media_type="application/json")


@lru_cache(maxsize=1)
def _document() -> bytes:
    kinds = [kind for kind, *_ in _POSTS.values()]
    schemas, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    bodies = dict(zip(kinds, schemas, strict=True))
    paths: dict[str, Any] = {path: {"get": _get(path, *described)} for path, described in _GETS.items()}
    for path, (kind, summary, streams, required) in _POSTS.items():
        paths[path] = {"post": _post(bodies[kind], summary, streams, required)}
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {"title": "MiniMind Edge", "version": _version()},
            "paths": paths,
            "components": {"schemas": {**components, "Error": _ERROR}},
        }
    )


def _get(path: str, summary: str, required: list[str]) -> dict[str, Any]:
    operation: dict[str, Any] = {"summary": summary, "responses": {"200": _answer(required)}}
    if "{model}" in path:
        operation["parameters"] = [{"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}]
        operation["responses"]["404"] = _refusal(_REFUSALS["404"])
    return operation


def _post(body: dict[str, Any], summary: str, streams: bool, required: list[str]) -> dict[str, Any]:
    answer = _answer(required)
    if streams:
        answer["content"]["text/event-stream"] = {"schema": {"type": "string"}}
    refusals = {status: _refusal(text) for status, text in _REFUSALS.items()}
    content = {"application/json": {"schema": body}}
    return {
        "summary": summary,
        "requestBody": {"required": True, "content": content},
        "responses": {"200": answer, **refusals},
    }


def _answer(required: list[str]) -> dict[str, Any]:
    schema = {"type": "object", "required": required}
    return {"description": "The answer", "content": {"application/json": {"schema": schema}}}


def _refusal(text: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Error"}
    return {"description": text, "content": {"application/json": {"schema": schema}}}


def _version() -> str:
    try:
        return version("minimind-edge")
    except PackageNotFoundError:  # run from a checkout
        return "0"
