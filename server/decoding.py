"""Decoding of request bodies: from JSON to the type of the endpoint, with errors that name the field."""

from __future__ import annotations

import re
from typing import TypeVar

import msgspec

from .errors import ApiError, bad_request

T = TypeVar("T", bound=msgspec.Struct)

_PATH = re.compile(r"^(?P<message>.*?)(?: - at `(?P<path>\$.*)`)?$", re.DOTALL)
_FIELD = re.compile(r"field `(?P<name>[^`]*)`")


def decode(kind: type[T], body: bytes) -> T:
    """Decode a request's body.

    Args:
        kind: The type of the endpoint's body.
        body: JSON in UTF-8.

    Raises:
        ApiError: The body is not JSON, or a field is missing, unknown or of the wrong type (400).
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise _field_error(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise bad_request(f"the body is not JSON: {error}", code="invalid_json") from error
    except RecursionError as error:
        raise bad_request("the body is nested too deeply", code="invalid_json") from error


def _field_error(text: str) -> ApiError:
    """The error of a field, from msgspec's message with the path to the value or to the object that holds it."""
    match = _PATH.match(text)
    assert match is not None
    message, path = match["message"], (match["path"] or "$").removeprefix("$").removeprefix(".")
    named = _FIELD.search(message)
    field = ".".join(part for part in (path, named["name"] if named else "") if part)
    if "unknown field" in message:
        return bad_request(f"{field} is not a field that this server knows", field, "unknown_parameter")
    if "missing required field" in message:
        return bad_request(f"{field} is missing", field, "missing_required_parameter")
    message = message[:1].lower() + message[1:]
    return bad_request(f"{field or 'the body'}: {message}", field or None, "invalid_value")
