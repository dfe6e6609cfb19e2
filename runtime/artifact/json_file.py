"""Reading JSON files by a schema, with errors that name the file, the path to the value, and the expected type.

A schema is a `msgspec.Struct`; its errors become one-line `ArtifactError`s.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, TypeVar

import msgspec

from ..errors import ArtifactError
from .text_file import decode_text, read_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from msgspec import inspect

MAX_BYTES = 64 << 20
"""The size limit of a JSON file in bytes; tokenizers of 250,000 tokens stay below a third of it."""

LARGEST = (1 << 53) - 1
"""The largest integer that a field may hold: the largest that every JSON reader represents exactly."""

Count: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=LARGEST)]
"""An integer of at least 1."""

Size: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=LARGEST)]
"""An integer of at least 0, such as a number of bytes."""

TokenId: TypeAlias = Annotated[int, msgspec.Meta(ge=-(1 << 31), le=(1 << 31) - 1)]
"""A 32-bit token id; -1 stands for none."""

Name: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]
"""A short string that names something."""

T = TypeVar("T")

_KINDS = {
    "int": "an integer",
    "float": "a number",
    "str": "a string",
    "bool": "true or false",
    "object": "an object",
    "array": "a list",
    "null": "null",
}
_MISSING = re.compile(r"Object missing required field `(\w+)`")
_EXPECTED = re.compile(r"Expected `([^`]+)`(.*)", re.DOTALL)
_BOUND = re.compile(r" (of length )?(>=|<=|>|<) (-?[\d.]+)")
_STEP = re.compile(r"\.(\w+)|\[(\d+)\]|(\[\.\.\.\])")
_WORDS = {">=": "at least", "<=": "at most", ">": "more than", "<": "less than"}


def read_object(path: Path) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    Raises:
        ArtifactError: The file cannot be read, is too large, is not JSON, or its top level is not an object.
    """
    return parse_object(read_bytes(path, MAX_BYTES), str(path))


def read_json(path: Path, schema: type[T]) -> T:
    """Read a file that holds one JSON object, and check it against a schema.

    Args:
        path: The file.
        schema: A `msgspec.Struct`.

    Raises:
        ArtifactError: The file cannot be read or is not a JSON object, or a value is missing, of the wrong type or out
            of its range.
    """
    return check_json(read_object(path), schema, str(path))


def parse_object(data: bytes, where: str) -> dict[str, Any]:
    """Parse the bytes of a file that holds one JSON object.

    Args:
        data: The file's content.
        where: The file, for messages.

    Raises:
        ArtifactError: The bytes are not JSON, or their top level is not an object.
    """
    text = decode_text(data, where)
    try:
        values = msgspec.json.decode(text)
    except RecursionError as error:
        raise ArtifactError(f"{where} is nested too deeply to be a file of an artifact") from error
    except (ValueError, OverflowError) as error:  # msgspec's errors are ValueErrors
        reason = str(error).partition(" - at `")[0]
        raise ArtifactError(f"{where} is not valid JSON: {reason}{_excerpt(text, reason)}") from error
    if not isinstance(values, dict):
        raise ArtifactError(f"{where} must hold a JSON object, found {kind(values)}")
    return values


def check_json(values: Mapping[str, Any], schema: type[T], where: str) -> T:
    """Check a JSON object against a schema.

    Args:
        values: The object.
        schema: A `msgspec.Struct`.
        where: The file, for messages.

    Raises:
        ArtifactError: A value is missing, of the wrong type or out of its range.
    """
    try:
        return msgspec.convert(values, schema)
    except msgspec.ValidationError as error:
        raise _rejection(values, schema, where, str(error)) from error
    except RecursionError as error:
        raise ArtifactError(f"{where} is nested too deeply to be a file of an artifact") from error


def as_json(value: msgspec.Struct) -> dict[str, Any]:
    """The fields of a schema's object in JSON's own types, without those that are None."""
    told: dict[str, Any] = _told(msgspec.to_builtins(value))
    return told


def _told(value: Any) -> Any:
    """A value of JSON whose objects are without nulls."""
    if isinstance(value, dict):
        return {name: _told(item) for name, item in value.items() if item is not None}
    return [_told(item) for item in value] if isinstance(value, (list, tuple)) else value


def kind(value: object) -> str:
    """A short printable form of a JSON value, for messages."""
    if isinstance(value, (list, tuple, Mapping)):
        return "an object" if isinstance(value, Mapping) else "a list"
    try:
        text = msgspec.json.encode(value).decode()
    except (OverflowError, ValueError, msgspec.MsgspecError):
        text = str(value)  # an integer of more than 64 bits
    return text if len(text) <= 40 else f"{text[:37]}..."


def _rejection(values: Mapping[str, Any], schema: type, where: str, message: str) -> ArtifactError:
    """The error for a value that msgspec has rejected with `message`."""
    reason, _, path = message.partition(" - at `$")
    steps = list(_steps(path.rstrip("`")))
    if missing := _MISSING.fullmatch(reason):
        return ArtifactError(f"{where}: {_dotted([*steps, missing[1]])} is missing")
    found, is_known = _follow(values, steps)
    shown = f" is {kind(found)}" if is_known else ""
    expected = f"one of {', '.join(choices)}" if (choices := _choices(schema, steps)) else _expected(reason)
    return ArtifactError(f"{where}: {_dotted(steps)}{shown}: expected {expected}")


def _steps(path: str) -> Iterator[str | int | None]:
    """The keys and indices of a path such as `.graphs[0].file`; None for a key that msgspec does not name."""
    for match in _STEP.finditer(path):
        key, index, _ = match.groups()
        yield key if key is not None else None if index is None else int(index)


def _dotted(steps: list[str | int | None]) -> str:
    parts = ("[...]" if step is None else f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
    return "".join(parts).removeprefix(".") or "the file"


def _follow(values: Any, steps: list[str | int | None]) -> tuple[Any, bool]:
    """The value at a path, and whether the path exists."""
    for step in steps:
        try:
            values = values[step]
        except (LookupError, TypeError):
            return None, False
    return values, True


def _choices(schema: type, steps: list[str | int | None]) -> tuple[str, ...]:
    """The strings that a schema allows at a path; empty where it does not list them."""
    from msgspec import inspect

    kinds = [_described(schema)]
    for step in steps:
        kinds = [inner for each in _alternatives(kinds) for inner in _inner(each, step)]
    literals = [each for each in _alternatives(kinds) if isinstance(each, inspect.LiteralType)]
    return tuple(str(value) for each in literals for value in each.values)


@cache
def _described(schema: type) -> inspect.Type:
    """What msgspec says of a schema: asking for it takes longer than the rest of an error, and files may be many."""
    from msgspec import inspect

    return inspect.type_info(schema)


def _alternatives(kinds: list[Any]) -> list[Any]:
    """The types, each union replaced by its members."""
    return [member for each in kinds for member in getattr(each, "types", (each,))]


def _inner(kind: Any, step: str | int | None) -> list[Any]:
    """The types of the values that a type contains at one step of a path."""
    if isinstance(step, str):
        return [field.type for field in getattr(kind, "fields", ()) if field.encode_name == step]
    return [getattr(kind, name) for name in ("item_type", "value_type") if hasattr(kind, name)]


def _expected(reason: str) -> str:
    """The expectation of msgspec in words: `` `int` >= 1`` becomes "an integer, at least 1"."""
    if reason == "Number out of range":
        return "a number of at most 1.8e308"
    match = _EXPECTED.match(reason)
    if match is None:
        return f"something else ({reason})"
    names = [_KINDS.get(name.strip(), name.strip()) for name in match[1].split("|")]
    words = " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
    if bound := _BOUND.match(match[2]):
        of_length, sign, limit = bound.groups()
        words += f", {_WORDS[sign]} {limit}{' long' if of_length else ''}"
    return words


def _excerpt(text: str, message: str) -> str:
    """The text at the byte that an error names, so that a user can find it."""
    match = re.search(r"\(byte (\d+)\)", message)
    return f": {text.encode()[int(match[1]) :][:20].decode(errors='replace')!r}" if match else ""
