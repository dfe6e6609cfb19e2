"""What stands before the endpoints: draining, hosts and origins, API keys, and the limit of a body."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .access_log import AccessLog
from .errors import ApiError

OPEN_PATHS = frozenset({"/health"})
"""Paths that are answered without an API key and, for the sake of probes by address, under every host name."""

WITH_BODY = frozenset({"POST", "PUT", "PATCH"})

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


SHUTTING_DOWN = ApiError(
    503,
    "the server is shutting down",
    code="shutting_down",
    headers={"Retry-After": "5", "Connection": "close"},
)


@dataclass
class Presence:
    """How many requests run, and whether new ones are refused because the server is ending.

    Attributes:
        running: Number of requests that have begun and not ended.
        draining: Whether new requests are refused.
    """

    running: int = 0
    draining: bool = False


class Drain:
    """Counts the running requests, and refuses new ones with 503 while the server drains."""

    def __init__(self, app: ASGIApp, presence: Presence) -> None:
        self._app = app
        self._presence = presence

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._presence.draining:
            await SHUTTING_DOWN.response()(scope, receive, send)
            return
        self._presence.running += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._presence.running -= 1


class HostCheck:
    """Refuses requests for other hosts, and those that another site's page sends.

    A page on the web may call a server on this machine: by its address, which its browser then reports as `Origin`, or
    by a name that resolves to this machine (DNS rebinding), which then is the `Host`.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str] | None, origins: Collection[str]) -> None:
        """Wrap an application.

        Args:
            app: The application.
            hosts: Names and addresses without ports that the server answers to; None for all.
            origins: Origins of the pages that may use the server, next to its own page; `*` for all.
        """
        self._app = app
        self._hosts = None if hosts is None else frozenset(map(str.lower, hosts))
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        app = self._app
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            refusal = self._refusal(scope)
            app = app if refusal is None else refusal.response()
        await app(scope, receive, send)

    def _refusal(self, scope: Scope) -> ApiError | None:
        host, origin = _header(scope, b"host"), _header(scope, b"origin")
        if self._hosts is not None and host_name(host) not in self._hosts:
            return ApiError(403, f"this server does not answer to the host {host!r}: start it with --allow-host")
        if origin is None or "*" in self._origins or origin in self._origins:
            return None
        if host is not None and urlsplit(origin).netloc == host:
            return None
        return ApiError(403, f"pages of {origin} may not use this server: start it with --cors {origin}")


class ApiKeys:
    """Lets requests pass that carry one of the keys as `Authorization: Bearer KEY`."""

    def __init__(self, app: ASGIApp, keys: Sequence[str], open_paths: Collection[str]) -> None:
        self._app = app
        self._open = OPEN_PATHS.union(open_paths)
        self._digests = [_digest(key.encode()) for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and not self._passes(scope):
            message = "the API key is missing or wrong: send the header Authorization: Bearer KEY"
            refusal = ApiError(401, message, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})
            await refusal.response()(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _passes(self, scope: Scope) -> bool:
        if scope["path"] in self._open:
            return True
        scheme, _, key = (_header(scope, b"authorization") or "").partition(" ")
        digest = _digest(key.strip().encode("latin-1"))
        # Every key is compared, whichever fits, and digests are of one length: the time says nothing about a key.
        fits = [hmac.compare_digest(digest, known) for known in self._digests]
        return any(fits) and scheme.lower() == "bearer"


class BodyLimit:
    """Reads bodies before the application does, and refuses those that are too long.

    A body is too long by the length that is announced or, where none is, by the bytes that come.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["method"] not in WITH_BODY:
            await self._app(scope, receive, send)
            return
        announced = _header(scope, b"content-length") or ""
        fits = not announced.isdecimal() or int(announced) <= self._max_bytes
        body = await self._read(receive) if fits else None
        if body is None:
            refusal = ApiError(413, f"the body is longer than {self._max_bytes} bytes (--max-body)")
            await refusal.response()(scope, receive, send)
            return
        waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replaying() -> Message:
            return waiting.pop() if waiting else await receive()

        await self._app(scope, replaying, send)

    async def _read(self, receive: Receive) -> bytes | None:
        """The whole body, None where it is too long; of a client that goes away, what has come until then."""
        body = bytearray()
        while True:
            message = await receive()
            body += message.get("body", b"")
            if len(body) > self._max_bytes:
                return None
            if not message.get("more_body", False):
                return bytes(body)


def guarded(
    app: ASGIApp,
    presence: Presence,
    *,
    keys: Sequence[str],
    hosts: Collection[str] | None,
    origins: Sequence[str],
    max_body_bytes: int,
    open_paths: Collection[str] = (),
) -> ASGIApp:
    """An application with all that stands before it.

    Args:
        app: The application.
        presence: Where running requests are counted.
        keys: API keys; empty for a server that is open.
        hosts: Names that the server answers to, None for all.
        origins: Origins whose pages may use the server, by CORS.
        max_body_bytes: Most bytes of a request's body.
        open_paths: Paths that take no key, such as those of the page's files.
    """
    inner: ASGIApp = BodyLimit(app, max_body_bytes)
    if keys:
        inner = ApiKeys(inner, keys, open_paths)
    inner = HostCheck(inner, hosts, origins)
    if origins:
        inner = CORSMiddleware(
            inner,
            allow_origins=origins,
            allow_methods=("GET", "POST"),
            allow_headers=("Authorization", "Content-Type", "X-Request-Id"),
            expose_headers=("X-Request-Id", "Retry-After"),
        )
    return AccessLog(Drain(inner, presence))


def host_name(host: str | None) -> str:
    """The name in a `Host` header without its port, in lower case; brackets around an IPv6 address are dropped."""
    try:
        return urlsplit(f"//{host or ''}").hostname or ""
    except ValueError:
        return ""


def _header(scope: Scope, name: bytes) -> str | None:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), None)


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
