"""Hand-made checkpoints of each generation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import checkpoint_states
import pytest
import torch

MakeState: TypeAlias = Callable[..., checkpoint_states.State]
Save: TypeAlias = Callable[..., Path]


@pytest.fixture
def make_state() -> MakeState:
    return checkpoint_states.make_state


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Save an object with `torch.save` under the test's folder."""

    def save_file(content: object, name: str = "full_sft_64.pth") -> Path:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save(content, file)
        return file

    return save_file
