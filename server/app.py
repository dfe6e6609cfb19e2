"""The HTTP application: OpenAI's endpoints, and the errors of all of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from .chat import chat_completions
from .completions import completions
from .delivery import Observer
from .engine import BatchEngine
from .errors import ApiError
from .models import ServedModels
from .openapi import openapi
from .settings import ServerSettings
from .tokens import detokenize, tokenize


def create_app(
    models: Mapping[str, BatchEngine], settings: ServerSettings | None = None, observer: Observer | None = None
) -> Starlette:
    """Make the HTTP application of some models; its start starts their engines, and its end closes them.

    Args:
        models: The engine of each model by the name under which it is served, at least one.
        settings: The settings of the server; None for the defaults.
        observer: Is told about every answer that ends.

    Returns:
        The application; `state.models` and `state.settings` hold what it serves.
    """
    settings = settings or ServerSettings()
    app = Starlette(
        routes=[
            Route("/health", _health, methods=["GET"]),
            Route("/v1/chat/completions", chat_completions, methods=["POST"]),
            Route("/v1/completions", completions, methods=["POST"]),
            Route("/openapi.json", openapi, methods=["GET"]),
            Route("/tokenize", tokenize, methods=["POST"]),
            Route("/detokenize", detokenize, methods=["POST"]),
            Route("/v1/models", _list_models, methods=["GET"]),
            Route("/v1/models/{name:path}", _one_model, methods=["GET"]),
        ],
        exception_handlers={ApiError: _api_error, HTTPException: _http_error, ClientDisconnect: _gone, Exception: _bug},
        lifespan=_lifespan,
    )
    app.state.models = ServedModels(models, settings, observer)
    app.state.settings = settings
    return app


@asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    models: ServedModels = app.state.models
    for model in models:
        model.delivery.start()
    try:
        yield
    finally:
        for model in models:
            model.preparation.shutdown(wait=False, cancel_futures=True)
            await asyncio.to_thread(model.engine.close, drain=False)


async def _health(request: Request) -> Response:
    return _json({"status": "ok"})


async def _list_models(request: Request) -> Response:
    return _json({"object": "list", "data": [model.describe() for model in request.app.state.models]})


async def _one_model(request: Request) -> Response:
    return _json(request.app.state.models.find(request.path_params["name"]).describe())


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")


async def _api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return error.response()


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.url.path}: {error.detail}"
    return ApiError(error.status_code, message, headers=error.headers).response()


async def _gone(request: Request, error: Exception) -> Response:
    return ApiError(400, "the request ended before its body was complete").response()


async def _bug(request: Request, error: Exception) -> Response:
    return ApiError(500, "the server failed on this request; its log has the details").response()
