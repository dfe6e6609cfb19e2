"""The output of `--json`: one object on stdout."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def print_json(content: Mapping[str, Any]) -> None:
    """Print an object as standard JSON, without escapes of readable text, NaN or infinity.

    Raises:
        ValueError: A number is not finite.
    """
    print(json.dumps(content, ensure_ascii=False, indent=2, allow_nan=False))
