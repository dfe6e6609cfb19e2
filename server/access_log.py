"""The access log: a line of JSON for each request, written by a thread of its own, without prompts and answers."""

from __future__ import annotations

import json
import logging
import logging.handlers
import queue
import re
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_WAITING_LINES = 10_000
"""Most lines that wait for a slow or full disk; later ones are dropped."""

MAX_PATH = 200
"""Most characters of a path in the log."""

CLIENT_CLOSED = 499
"""The status in the log of a request whose client went away before the answer began, as nginx has it."""

REQUEST_ID = b"x-request-id"
USABLE_ID = re.compile(rb"[\w.:-]{1,64}")

logger = logging.getLogger("minimind_edge.access")


class AccessLog:
    """ASGI middleware that gives each request an id, and logs it when it has ended.

    What the endpoints put into `scope["state"]["log"]`, such as the model and the counts of tokens, becomes part of the
    line. The id is the client's `X-Request-Id` or a new one, and goes back in the header of that name.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), CLIENT_CLOSED
        request_id = request_id_of(scope)
        facts: dict[str, Any] = {}
        scope.setdefault("state", {}).update(log=facts, request_id=request_id.decode())

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                nonlocal status
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (REQUEST_ID, request_id)]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except Exception:
            status = 500
            raise
        finally:
            milliseconds = round((time.perf_counter() - began) * 1e3, 1)
            logger.info(line(scope, status, milliseconds, request_id, facts))


def request_id_of(scope: Scope) -> bytes:
    """The client's id of a request where it has a usable one, else a new id."""
    for name, value in scope["headers"]:
        if name == REQUEST_ID and USABLE_ID.fullmatch(value):
            return bytes(value)
    return f"req-{uuid.uuid4().hex}".encode()


def line(scope: Scope, status: int, milliseconds: float, request_id: bytes, facts: dict[str, Any]) -> str:
    """A request as one line of JSON, without its query, headers and bodies."""
    now = time.time()
    entry = {
        "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now))}.{int(now % 1 * 1000):03d}Z",
        "request_id": request_id.decode(),
        "method": scope["method"],
        "path": scope["path"][:MAX_PATH],
        "status": status,
        "ms": milliseconds,
    }
    return json.dumps(entry | facts, ensure_ascii=False, separators=(",", ":"))


class _DroppingHandler(logging.handlers.QueueHandler):
    """Hands lines to the writing thread without ever waiting for it."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Drop a line that the full queue refused."""


class _QuietStreamHandler(logging.StreamHandler[TextIO]):
    """Writes lines; a full disk or a closed pipe costs the line and nothing else."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Drop a line that cannot be written."""


@contextmanager
def writing_logs(stream: TextIO | None = None, *, requests: bool = True) -> Iterator[None]:
    """Write the access log, and the errors of the server, while the context lasts.

    Args:
        stream: Where the lines go; stdout where it is None.
        requests: Whether requests are logged; if not, only errors are.
    """
    lines: queue.Queue[Any] = queue.Queue(MAX_WAITING_LINES)
    access, errors = _DroppingHandler(lines), _QuietStreamHandler(sys.stderr)
    errors.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    listener = logging.handlers.QueueListener(lines, _QuietStreamHandler(stream or sys.stdout))
    uvicorn = logging.getLogger("uvicorn.error")
    for log, handler, level in ((logger, access, logging.INFO), (uvicorn, errors, logging.ERROR)):
        log.handlers, log.propagate = [handler], False
        log.setLevel(level if requests or log is uvicorn else logging.CRITICAL)
    logging.getLogger("uvicorn.access").handlers = []
    logging.getLogger("uvicorn.access").propagate = False
    listener.start()
    try:
        yield
    finally:
        logger.handlers = []
        listener.stop()
