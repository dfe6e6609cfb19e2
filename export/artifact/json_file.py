"""JSON files of an artifact folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minimind_edge.runtime.errors import ArtifactError


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write `value` as readable UTF-8, replacing a file (never writing through a hard link)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ArtifactError: The file is no UTF-8, no JSON, or its top level is no object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ArtifactError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise ArtifactError(f"{path} must hold a JSON object, found {type(value).__name__}")
    return value
