"""Copying a Hugging Face folder without what ends an answer, for peers that can't be told to go on after it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ENDS = ("eos_token", "chat_template", "eos_token_id")
"""The fields of the tokenizer's and the generation's settings that name a token to stop at."""


def write_endless(source: Path, folder: Path) -> None:
    """Write a folder of the same weights and vocabulary, which stops at a token that does not exist."""
    folder.mkdir()
    for path in source.iterdir():
        (folder / path.name).symlink_to(path)
    for name in ("tokenizer_config.json", "generation_config.json"):
        (folder / name).unlink()
        content: dict[str, Any] = json.loads((source / name).read_text(encoding="utf-8"))
        kept = {key: value for key, value in content.items() if key not in ENDS}
        if name == "generation_config.json":  # LiteRT-LM refuses a model without a token to stop at
            kept["eos_token_id"] = json.loads((source / "config.json").read_text(encoding="utf-8"))["vocab_size"]
        (folder / name).write_text(json.dumps(kept), encoding="utf-8")
