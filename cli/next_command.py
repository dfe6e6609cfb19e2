"""The line that an export ends with, for people to try next."""

from __future__ import annotations

import shlex
from pathlib import Path

QUESTION = "Who are you?"
OPENING = "Once upon a time"
IDS = "1,2,3"


def run_command(artifact: Path, *, takes_text: bool, is_chat: bool, raw: bool = False) -> str:
    """The line, quoted for the shell.

    Args:
        artifact: a folder, a graph or a plan.
        takes_text: whether it came with a tokenizer.
        is_chat: whether it came with a chat template, so that it answers rather than continues.
        raw: whether it is pretrained only, so that it continues although it came with a chat template.
    """
    prompt = [QUESTION if is_chat else OPENING] if takes_text else ["--ids", IDS]
    if takes_text and is_chat and raw:
        prompt = ["--raw", OPENING]
    return shlex.join(["minimind-run", "--engine", str(artifact), *prompt])


def engine_command(artifact: Path) -> str:
    """The line for an artifact that no ONNX Runtime calculates with: build its plan.

    Args:
        artifact: the folder.
    """
    return shlex.join(["minimind-export", "engine", str(artifact), "-o", str(artifact / "model.plan")])
