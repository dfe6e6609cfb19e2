"""Files of a training run, which appear whole or not at all: checkpoints in upstream's form, and other state."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from minimind_edge.minimind import MiniMindForCausalLM


def checkpoint_name(model: MiniMindForCausalLM) -> str:
    """Return the file name that upstream gives such a model, `full_sft_{H}[_moe].pth`."""
    return f"full_sft_{model.config.hidden_size}{'_moe' if model.config.use_moe else ''}.pth"


def save_checkpoint(model: MiniMindForCausalLM, folder: Path) -> Path:
    """Write a bare float16 state dict as upstream does, embedding and head both stored, and return its path."""
    path = folder / checkpoint_name(model)
    save_whole({name: tensor.detach().half() for name, tensor in model.state_dict().items()}, path)
    return path


def save_whole(content: Any, path: Path) -> None:
    """Save `content` next to `path` and rename it, so that a kill leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
