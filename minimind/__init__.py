"""The PyTorch MiniMind, and loading it from checkpoints of every generation.

Names are imported when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .attention import Attention, repeat_kv
    from .causal_lm import MiniMindForCausalLM
    from .checkpoint import load_checkpoint, read_checkpoint
    from .config import MiniMindConfig
    from .errors import AdapterError, CheckpointError, ConfigError, MiniMindError
    from .feed_forward import FeedForward
    from .model import MiniMindBlock, MiniMindModel
    from .moe import MOEFeedForward, MoEGate
    from .norm import RMSNorm
    from .rope import apply_rotary_pos_emb, precompute_freqs_cis

_MODULES = {
    "AdapterError": "errors",
    "Attention": "attention",
    "CheckpointError": "errors",
    "ConfigError": "errors",
    "FeedForward": "feed_forward",
    "MOEFeedForward": "moe",
    "MiniMindBlock": "model",
    "MiniMindConfig": "config",
    "MiniMindError": "errors",
    "MiniMindForCausalLM": "causal_lm",
    "MiniMindModel": "model",
    "MoEGate": "moe",
    "RMSNorm": "norm",
    "apply_rotary_pos_emb": "rope",
    "load_checkpoint": "checkpoint",
    "precompute_freqs_cis": "rope",
    "read_checkpoint": "checkpoint",
    "repeat_kv": "attention",
}

__all__ = [
    "AdapterError",
    "Attention",
    "CheckpointError",
    "ConfigError",
    "FeedForward",
    "MOEFeedForward",
    "MiniMindBlock",
    "MiniMindConfig",
    "MiniMindError",
    "MiniMindForCausalLM",
    "MiniMindModel",
    "MoEGate",
    "RMSNorm",
    "apply_rotary_pos_emb",
    "load_checkpoint",
    "precompute_freqs_cis",
    "read_checkpoint",
    "repeat_kv",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)
