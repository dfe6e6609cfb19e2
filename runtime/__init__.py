"""The runtime: runs exported models with numpy and ONNX Runtime, without torch.

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
    from .artifact.folder import Artifact
    from .batch.engine import BatchEngine
    from .chat import Chat
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
    from .load import load_session
    from .sampling import Sampler, SamplingParams
    from .session.session import Session
    from .text.chat_template import ChatTemplate
    from .text.prompt import Prompt
    from .text.think import Segment, ThinkSplitter
    from .text.tokenizer import Tokenizer

_MODULES = {
    "artifact.folder": ("Artifact",),
    "batch.engine": ("BatchEngine",),
    "chat": ("Chat",),
    "text.chat_template": ("ChatTemplate",),
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
    "load": ("load_session",),
    "text.prompt": ("Prompt",),
    "sampling": ("Sampler", "SamplingParams"),
    "session.session": ("Session",),
    "text.think": ("Segment", "ThinkSplitter"),
    "text.tokenizer": ("Tokenizer",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "Artifact",
    "ArtifactError",
    "BatchEngine",
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
    "load_session",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("minimind-edge")
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
