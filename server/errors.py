"""Errors in OpenAI's form, and what each error of the runtime becomes."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from starlette.responses import Response

from minimind_edge.runtime.errors import (
    ContextLengthError,
    EdgeError,
    EngineClosedError,
    InputError,
    QueueFullError,
    UsageError,
)


class ApiError(Exception):
    """A request that ends with an error.

    Args:
        status: HTTP status.
        message: One line that tells what is wrong and what to do.
        param: The field of the request that is wrong, None where no single one is.
        code: OpenAI's code of the error, None where there is none.
        headers: Further headers of the response.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.headers = dict(headers or {})

    @property
    def body(self) -> bytes:
        """The error as OpenAI's JSON object."""
        error = {"message": self.message, "type": _kind(self.status), "param": self.param, "code": self.code}
        return msgspec.json.encode({"error": error})

    def response(self) -> Response:
        """The error as a response."""
        return Response(self.body, self.status, self.headers, media_type="application/json")


def bad_request(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """An error of the request itself, status 400."""
    return ApiError(400, message, param=param, code=code)


def api_error(error: EdgeError, param: str | None = None, retry_after_s: int = 1) -> ApiError:
    """What an error of the runtime becomes.

    Args:
        error: The error that refused a request before anything ran.
        param: The field of the request that it is about.
        retry_after_s: Seconds after which a request that was refused for lack of room may be sent again.
    """
    message = str(error)
    retry = {"Retry-After": str(retry_after_s)}
    if isinstance(error, QueueFullError):
        return ApiError(429, message, code="queue_full", headers=retry)
    if isinstance(error, EngineClosedError):
        return ApiError(503, message, code="shutting_down", headers=retry)
    if isinstance(error, ContextLengthError):
        return bad_request(message, param, "context_length_exceeded")
    if isinstance(error, (InputError, UsageError)):
        return bad_request(message, param)
    return ApiError(500, message)


def _kind(status: int) -> str:
    if status == 401:
        return "authentication_error"
    if status == 429:
        return "rate_limit_error"
    if status == 503:
        return "service_unavailable_error"
    return "invalid_request_error" if status < 500 else "server_error"
