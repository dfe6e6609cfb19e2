"""The files of a plan: itself, what says what it is, and what lets its folder run by itself."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minimind_edge.runtime.artifact.folder import TOKENIZER_CONFIG
from minimind_edge.runtime.artifact.paths import copy_member, member
from minimind_edge.runtime.tensorrt.plan import sidecar_path

from ..artifact.json_file import write_json
from ..artifact.tokenizer_files import CHAT_TEMPLATE, TOKENIZER

COMPANIONS = (TOKENIZER, TOKENIZER_CONFIG, CHAT_TEMPLATE, "generation_config.json", "config.json")
"""Files of an artifact that a plan's folder needs to take and give text."""


def write_plan(path: Path, data: bytes, description: Mapping[str, Any], artifact: Path | None) -> Path:
    """Write a plan and what belongs to it; each file is there whole or not at all.

    Args:
        path: Of the plan; its folder is made, what was there under its name is replaced.
        data: The plan.
        description: What goes into the file beside it; it holds the plan's digest, so that a plan that lost its own
            description in a crash is found out.
        artifact: Where tokenizer and configs come from, None where there are none. What the plan's folder has of
            them already stays.

    Returns:
        The description's path.

    Raises:
        ArtifactError: A file of the artifact is a link that leads out of it.
        OSError: The disk is full or cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    sidecar = sidecar_path(path)
    stage = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent))
    try:
        _write_synced(stage / path.name, data)
        write_json(stage / sidecar.name, description)
        names = [] if artifact is None else _missing(artifact, path.parent)
        for name in names:
            assert artifact is not None  # or there were no names
            copy_member(artifact, name, stage / name)
        for name in (*names, path.name, sidecar.name):
            (stage / name).replace(path.parent / name)
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    return sidecar


def _missing(artifact: Path, folder: Path) -> list[str]:
    """Files to put beside the plan. A folder with a tokenizer keeps it whole: parts of two would not fit."""
    names = list(COMPANIONS)
    if (folder / TOKENIZER).exists():
        names = [name for name in names if name not in (TOKENIZER, TOKENIZER_CONFIG, CHAT_TEMPLATE)]
    return [name for name in names if member(artifact, name) is not None and not (folder / name).exists()]


def _write_synced(path: Path, data: bytes) -> None:
    """Write to the disk itself, so that a full one shows before anything is replaced."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
