"""Errors of the model package.

    MiniMindError
    ├── ConfigError        a config that is unknown, contradictory or out of range
    └── CheckpointError    a weight file that cannot become a model
        └── AdapterError   a LoRA file that does not fit its base checkpoint

Every class carries the process exit code that a command ends with; the message is one line that
says what is wrong, what was expected and found, and what to do.
"""

from __future__ import annotations

MESSAGE_LENGTH = 600
"""The longest message in characters: two paths and a sentence fit, a name of thousands of letters does not."""


class MiniMindError(Exception):
    """Root of the tree; raise one of its children."""

    exit_code: int = 3

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class ConfigError(MiniMindError):
    """A model configuration is unknown, contradictory or out of range."""


class CheckpointError(MiniMindError):
    """A checkpoint cannot be read, or its tensors are not a MiniMind model."""


class AdapterError(CheckpointError):
    """A LoRA file cannot be read, or does not fit the checkpoint it is merged into."""


def printable(text: str, length: int = MESSAGE_LENGTH) -> str:
    """Text that may quote a file, for a terminal: control characters and lone surrogates escaped, the middle cut out.

    Args:
        text: What to print.
        length: The most characters to keep.
    """
    if len(text) > length:
        text = f"{text[: length * 2 // 3]} ... {text[-length // 4 :]}"
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def one_line(error: BaseException) -> str:
    """The first line of an error's message, or its type where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
