"""The command to try next, which an export prints at its end."""

from __future__ import annotations

import shlex
from pathlib import Path

QUESTION = "Who are you?"
OPENING = "Once upon a time"
IDS = "1,2,3"


def run_command(artifact: Path, *, takes_text: bool, is_chat: bool, raw: bool = False) -> str:
    """The command that runs an artifact, quoted for the shell.

    Args:
        artifact: A folder, a graph or a plan.
        takes_text: Whether the artifact has a tokenizer.
        is_chat: Whether the artifact has a chat template, so that it answers a question.
        raw: Whether the model is only pretrained, so that it continues a text although it has a chat template.
    """
    prompt = [QUESTION if is_chat else OPENING] if takes_text else ["--ids", IDS]
    if takes_text and is_chat and raw:
        prompt = ["--raw", OPENING]
    return shlex.join(["minimind-run", "--engine", str(artifact), *prompt])


def engine_command(artifact: Path) -> str:
    """The command that builds a plan from an artifact of target tensorrt.

    Args:
        artifact: The artifact folder.
    """
    return shlex.join(["minimind-export", "engine", str(artifact), "-o", str(artifact / "model.plan")])
