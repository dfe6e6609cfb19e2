"""The errors of the model package.

    MiniMindError
    ├── ConfigError        a config that is unknown, contradictory or out of range
    └── CheckpointError    a weight file that cannot become a model
        └── AdapterError   a LoRA file that does not fit its base checkpoint

Every class carries the exit code that a command ends with; the message is one line: the problem, expected and found,
the remedy.
"""

from __future__ import annotations

MESSAGE_LENGTH = 600
"""The length limit of a message in characters, enough for two paths and a sentence."""


class MiniMindError(Exception):
    """Root of the tree, of which only subclasses are raised."""

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
    """Text made safe for a terminal: control characters and lone surrogates are escaped, a long middle is cut out.

    Args:
        text: Text that may quote a file.
        length: Most characters to keep.
    """
    if len(text) > length:
        text = f"{text[: length * 2 // 3]} ... {text[-length // 4 :]}"
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def one_line(error: BaseException) -> str:
    """The first line of an error's message, or its type where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
