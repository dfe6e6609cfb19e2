"""Reading checkpoints of every MiniMind generation: files, names, configuration and adapters, into the model."""

from __future__ import annotations

from .adapter import MergedAdapter
from .loading import LoadedCheckpoint, load_checkpoint, read_checkpoint
from .report import CheckpointReport

__all__ = ["CheckpointReport", "LoadedCheckpoint", "MergedAdapter", "load_checkpoint", "read_checkpoint"]
