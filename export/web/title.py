"""The title of the page: the model's name without what its trainer added to the file's name."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minimind_edge.runtime.errors import UsageError
from minimind_edge.runtime.hub import snapshot_origin

MAX_LENGTH = 200
"""The longest title, in characters."""

GENERATIONS = {"minimind2-legacy": "MiniMind2", "minimind2": "MiniMind2", "minimind3": "MiniMind-3"}
"""The name of a model that has none of its own, by the generation of its checkpoint."""

PLAIN_NAMES = frozenset({"model", "pytorch_model", "adapter_model", "checkpoint"})
"""The names of weight files that say nothing about the model."""

EXTENSION = re.compile(r"\.(pth|pt|bin|ckpt|safetensors)$")
SHARD = re.compile(r"-\d{5}-of-\d{5}$")
STAGE = re.compile(
    r"(^|[_-])(pretrain|full_sft|sft|full_dist|dist|distill|dpo|rlhf|rlaif|reason|ppo_actor|ppo|grpo|spo|agent|lora(_[a-z]+)?)"
    r"(_\d+)?(_moe)?(_resume)?$"
)
"""The end of a checkpoint's name as MiniMind's trainers write it: stage, width, MoE, and the mark of a resume."""

PLACE = "MiniMind"
"""The title in the page's file, which the title of the site replaces."""


def check_title(title: str | None) -> None:
    """Check a title that the user gave.

    Raises:
        UsageError: It is empty or too long, or has characters that cannot be shown.
    """
    if title is not None and (not title.strip() or len(title) > MAX_LENGTH or not title.isprintable()):
        raise UsageError(f"--title is {title[:40]!r}: expected 1 to {MAX_LENGTH} characters on one line")


def model_name(source: Path | None, manifest: Mapping[str, Any]) -> str:
    """The name of a model: that of its checkpoint's file or folder without the training stage, or of its generation.

    Args:
        source: The checkpoint that the user named, None for the bundled one.
        manifest: The manifest of the model.
    """
    checkpoint = manifest.get("checkpoint") or {}
    origin = None if source is None else snapshot_origin(source)
    named = "" if source is None else source.name if origin is None else origin[0]
    files = [str(checkpoint.get("hub") or checkpoint.get("file") or ""), named]
    for file in files:
        name = STAGE.sub("", SHARD.sub("", EXTENSION.sub("", Path(file).name)))
        if name and name not in PLAIN_NAMES and name.isprintable():
            return name[:MAX_LENGTH]
    moe = " MoE" if (manifest.get("architecture") or {}).get("moe") else ""
    return GENERATIONS.get(str(checkpoint.get("generation")), PLACE) + moe


def put_title(page: Path, title: str) -> None:
    """Write a title into the page's file, as text."""
    text = html.escape(title)
    content = page.read_text(encoding="utf-8")
    for before, after in (("<title>", "</title>"), ('<h1 id="title">', "</h1>")):
        content = content.replace(f"{before}{PLACE}{after}", f"{before}{text}{after}")
    page.write_text(content, encoding="utf-8")
