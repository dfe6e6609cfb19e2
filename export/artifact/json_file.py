"""Reading and writing the JSON files of an artifact folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minimind_edge.runtime.artifact.json_file import read_object


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write `value` as readable UTF-8, replacing a file (never writing through a hard link)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ArtifactError: The file cannot be read, or does not hold a JSON object.
    """
    return read_object(path)
