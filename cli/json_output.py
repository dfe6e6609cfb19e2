"""The output of `--json` and `--json-indent`: one object on stdout."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar


class Result(Protocol):
    """The result of a command."""

    def to_json(self) -> Mapping[str, Any]:
        """The object that `--json` prints."""
        ...


R = TypeVar("R", bound=Result)


def print_result(result: R, show: Callable[[R], object], *, as_json: bool, json_indent: bool) -> None:
    """Print a result by `show`, or as an object where `--json` or `--json-indent` asks for it."""
    if as_json or json_indent:
        print_json(result.to_json(), indent=json_indent)
    else:
        show(result)


def print_json(content: Mapping[str, Any], *, indent: bool = False) -> None:
    """Print an object as standard JSON, without escapes of readable text, NaN or infinity.

    Args:
        content: The object.
        indent: Whether to print it on several lines, for people, instead of on one line, for programs.

    Raises:
        ValueError: A number is not finite.
    """
    print(json.dumps(content, ensure_ascii=False, indent=2 if indent else None, allow_nan=False), flush=True)
