"""Signs of a changed model's code next to a checkpoint: the code is never read, and the user is told so."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

CODE_FILES = ("modeling_*.py", "model_*.py")
ARCHITECTURES = frozenset(
    {"MiniMindForCausalLM", "MiniMindLM", "LlamaForCausalLM", "Qwen3ForCausalLM", "Qwen3MoeForCausalLM"}
)
"""The class names of MiniMind's generations and of the model types that they convert to."""

SHOWN = 3


def find_foreign_code(folder: Path, config: Mapping[str, Any]) -> tuple[str, ...]:
    """The signs in a checkpoint's folder that its model may differ from the stock one.

    Args:
        folder: Folder of the weights.
        config: Content of the configuration next to the weights; empty where there is none.

    Returns:
        Phrases for a message: `auto_map in its config`, `model_minimind.py`.
    """
    found = ["auto_map in its config"] if config.get("auto_map") else []
    names = config.get("architectures")
    unknown = [name for name in names if name not in list(ARCHITECTURES)] if isinstance(names, list) else []
    found += [f"architectures {name!r}" for name in unknown[:SHOWN]]
    try:
        files = sorted({file.name for pattern in CODE_FILES for file in folder.glob(pattern)})
    except OSError:
        files = []
    return (*found, *files[:SHOWN])


def foreign_code_note(name: str, found: tuple[str, ...], generation: str) -> tuple[str, ...]:
    """The warning about the signs that `find_foreign_code` found; empty where it found none."""
    if not found:
        return ()
    return (
        f"warning: {name} has code of its own ({', '.join(found)}), which was not read: stock {generation} is assumed; "
        "where the code was changed, export the model from it (--model FILE.py:CLASS)",
    )
