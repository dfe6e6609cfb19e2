"""The output of `--json` and `--json-indent`: one object on stdout."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def print_json(content: Mapping[str, Any], *, indent: bool = False) -> None:
    """Print an object as standard JSON, without escapes of readable text, NaN or infinity.

    Args:
        content: The object.
        indent: Whether to print it on several lines, for people, instead of on one line, for programs.

    Raises:
        ValueError: A number is not finite.
    """
    print(json.dumps(content, ensure_ascii=False, indent=2 if indent else None, allow_nan=False), flush=True)
