"""MiniMind on several machines: the application of `minimind-serve` as deployments of Ray Serve.

    serve run deployment:app artifact=/models/minimind-demo slots=16 max_replicas=8

A `Model` is a replica of engine and application; a `Front` takes the HTTP requests, and gives each to a replica. Where
a replica dies before the first byte of an answer, the request is repeated on another one.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

from ray import serve
from ray.exceptions import RayActorError, RayTaskError
from ray.serve.config import RequestRouterConfig
from ray.serve.exceptions import BackPressureError, ReplicaUnavailableError
from ray.serve.handle import DeploymentHandle
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from minimind_edge.runtime.batch.engine import BatchEngine
from minimind_edge.server.app import create_app
from minimind_edge.server.errors import ApiError
from minimind_edge.server.middleware import Presence, guarded

ROUTER = "ray.serve.experimental.consistent_hash_router.ConsistentHashRouter"
"""Gives requests of one session to one replica; the session here is the beginning of a conversation."""

ATTEMPTS = 5
PAUSE_S = 0.2
LOST = (RayActorError, ReplicaUnavailableError)
"""What Ray raises for a request whose replica has died."""

START_CHARACTERS = 400
"""How much of a prompt decides about its replica: about as much as a system prompt."""

MAX_BODY_BYTES = 4 << 20

Part = tuple[int, list[tuple[str, str]]] | bytes
"""The status and the headers of an answer, or a part of its body."""


@serve.deployment
class Model:
    """A replica: an engine, and the HTTP application over it, which is called in memory.

    Args:
        artifact: The artifact's folder, the same on every machine.
        slots: Requests that run at once.
        threads: CPU threads.
    """

    async def __init__(self, artifact: str, slots: int, threads: int) -> None:
        path = Path(artifact)
        # Ray gives a replica no more requests than it has slots, and queues the others.
        engine = await asyncio.to_thread(BatchEngine.load, path, slots=slots, threads=threads, device="cpu")
        self._app = create_app({path.name: engine})
        self._running = self._app.router.lifespan_context(self._app)
        await self._running.__aenter__()

    async def answer(self, method: str, path: str, headers: list[tuple[str, str]], body: bytes) -> AsyncGenerator[Part]:
        """Answer an HTTP request.

        Yields:
            The status with the headers, then the parts of the body as they come.
        """
        parts: asyncio.Queue[Part | None] = asyncio.Queue()
        waiting = [{"type": "http.request", "body": body, "more_body": False}]
        gone = asyncio.Event()

        async def receive() -> Any:
            if waiting:
                return waiting.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                named = [(name.decode(), value.decode("latin-1")) for name, value in message["headers"]]
                parts.put_nowait((message["status"], named))
            else:
                parts.put_nowait(message.get("body", b""))
                if not message.get("more_body", False):
                    parts.put_nowait(None)

        task = asyncio.ensure_future(self._app(_scope(method, path, headers), receive, send))
        task.add_done_callback(lambda _: parts.put_nowait(None))
        try:
            while (part := await parts.get()) is not None:
                if part:
                    yield part
        finally:  # the client may have gone away in the middle
            gone.set()
            task.cancel()


def _scope(method: str, path: str, headers: list[tuple[str, str]]) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers],
    }


class Relay:
    """Gives HTTP requests to the replicas.

    Args:
        model: The replicas.
    """

    def __init__(self, model: DeploymentHandle) -> None:
        self._model = model

    async def __call__(self, request: Request) -> Response:
        """Answer a request by a replica; by another one where the first dies before it has said anything."""
        body = await request.body()
        headers = [(name, value) for name, value in request.headers.items() if name == "content-type"]
        model = self._model.options(stream=True, session_id=session_of(body))
        for attempt in range(ATTEMPTS):
            parts = model.answer.remote(request.method, request.url.path, headers, body)
            try:
                return await self._response(aiter(parts))
            except BackPressureError:
                return _error(429, "as many requests wait as may", "queue_full")
            except LOST:
                await asyncio.sleep(PAUSE_S * attempt)
        return _error(503, "no replica could answer: try again", "shutting_down")

    async def _response(self, parts: AsyncIterator[Part]) -> Response:
        """The response, as soon as it has begun where it is a stream, and otherwise when it is whole."""
        status, headers = await anext(parts)
        if not any("event-stream" in value for _, value in headers):
            content = b"".join([part async for part in parts])
            return Response(content, status, dict(headers))
        first = await anext(parts)
        return StreamingResponse(_events(first, parts), status, dict(headers))


async def _events(first: bytes, parts: AsyncIterator[Part]) -> AsyncIterator[bytes]:
    """The events of a stream; one with an error where the replica has died in the middle."""
    yield first
    try:
        async for part in parts:
            yield part
    except (*LOST, RayTaskError):
        error = ApiError(
            503, "the replica that wrote this answer has died: send the request again", code="replica_died"
        )
        yield b"data: " + error.body + b"\n\n"


def session_of(body: bytes) -> str:
    """The session of a request: the beginning of its conversation, so that one replica has its prefix in its cache."""
    try:
        asked = json.loads(body)
        start = asked.get("messages") or asked.get("prompt") or ""
    except (ValueError, AttributeError):
        start = ""
    return hashlib.sha256(json.dumps(start)[:START_CHARACTERS].encode()).hexdigest()


def _error(status: int, message: str, code: str) -> Response:
    return ApiError(status, message, code=code, headers={"Retry-After": "1"}).response()


class _Front:
    """The HTTP side, on every machine that runs one of Ray's proxies.

    Args:
        model: The replicas.
        keys: API keys; empty for none.
    """

    def __init__(self, model: DeploymentHandle, keys: tuple[str, ...]) -> None:
        self._model = model
        self._keys = keys

    def __serve_build_asgi_app__(self) -> Any:
        """The application, which Ray asks for when the replica starts."""
        everything = Route("/{path:path}", Relay(self._model).__call__, methods=["GET", "POST"])
        app = Starlette(routes=[everything])
        limits = {"keys": self._keys, "hosts": None, "origins": (), "max_body_bytes": MAX_BODY_BYTES}
        return guarded(app, Presence(), **limits)


Front = serve.deployment(serve.ingress()(_Front), name="Front")


def app(arguments: dict[str, str]) -> serve.Application:
    """Build the application; the function that `serve run` calls.

    Args:
        arguments: `artifact`, and if wanted `slots`, `threads`, `queue`, `min_replicas`, `max_replicas` and `keys`,
            separated by commas.
    """
    slots, threads = int(arguments.get("slots", 16)), int(arguments.get("threads", 2))
    least, most = int(arguments.get("min_replicas", 1)), int(arguments.get("max_replicas", 4))
    scaling = {"min_replicas": least, "initial_replicas": least, "max_replicas": most}
    model = Model.options(
        max_ongoing_requests=slots,
        max_queued_requests=int(arguments.get("queue", 4 * slots)),
        autoscaling_config={**scaling, "target_ongoing_requests": slots / 2, "upscale_delay_s": 5},
        ray_actor_options={"num_cpus": threads},
        request_router_config=RequestRouterConfig(request_router_class=ROUTER),
        graceful_shutdown_timeout_s=60,
    ).bind(arguments["artifact"], slots, threads)
    keys = tuple(key for key in arguments.get("keys", "").split(",") if key)
    front = Front.options(max_ongoing_requests=10_000, ray_actor_options={"num_cpus": 0.1})
    return front.bind(model, keys)
