"""Reading JSON files that users and other tools wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import one_line


def read_json_object(file: Path) -> dict[str, Any]:
    """Parse a UTF-8 JSON file, with or without a byte order mark, whose top is an object.

    Raises:
        ValueError: The file cannot be read or is something else; the message is one line without the file's name.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {one_line(error)}") from error
    if not isinstance(content, dict):
        raise ValueError(f"expected a JSON object, found {type(content).__name__}")
    return content
