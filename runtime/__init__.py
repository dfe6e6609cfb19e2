"""The runtime: runs exported models with numpy and ONNX Runtime alone.

    from minimind_edge.runtime import Engine

    engine = Engine.load("artifact/")
    for piece in engine.stream("Why is the sky blue?", max_new_tokens=64):
        print(piece, end="", flush=True)

Names are imported when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .artifact import Artifact
    from .chat import Chat
    from .chat_template import ChatTemplate
    from .completion import Completion, CompletionResult, CompletionTimings
    from .decode import Generation, Step, generate
    from .engine import Engine
    from .errors import (
        ArtifactError,
        ContextLengthError,
        EdgeError,
        InputError,
        MissingError,
        PromptError,
        UsageError,
    )
    from .ort_session import OrtSession
    from .prompt import Prompt
    from .sampling import Sampler, SamplingParams
    from .session import Session
    from .think import Segment, ThinkSplitter
    from .tokenizer import Tokenizer

_MODULES = {
    "artifact": ("Artifact",),
    "chat": ("Chat",),
    "chat_template": ("ChatTemplate",),
    "completion": ("Completion", "CompletionResult", "CompletionTimings"),
    "decode": ("Generation", "Step", "generate"),
    "engine": ("Engine",),
    "errors": (
        "ArtifactError",
        "ContextLengthError",
        "EdgeError",
        "InputError",
        "MissingError",
        "PromptError",
        "UsageError",
    ),
    "ort_session": ("OrtSession",),
    "prompt": ("Prompt",),
    "sampling": ("Sampler", "SamplingParams"),
    "session": ("Session",),
    "think": ("Segment", "ThinkSplitter"),
    "tokenizer": ("Tokenizer",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "Artifact",
    "ArtifactError",
    "Chat",
    "ChatTemplate",
    "Completion",
    "CompletionResult",
    "CompletionTimings",
    "ContextLengthError",
    "EdgeError",
    "Engine",
    "Generation",
    "InputError",
    "MissingError",
    "OrtSession",
    "Prompt",
    "PromptError",
    "Sampler",
    "SamplingParams",
    "Segment",
    "Session",
    "Step",
    "ThinkSplitter",
    "Tokenizer",
    "UsageError",
    "generate",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
