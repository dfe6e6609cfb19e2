"""The errors of the runtime, with the exit code that a command ends with.

EdgeError                         root; every class carries `exit_code`
├── UsageError                 2  an argument or a parameter is out of range, or two contradict each other
│   ├── EngineBusyError        2  an engine was used by two threads at once
│   ├── QueueFullError         2  as many requests wait as may
│   └── EngineClosedError      2  an engine takes no more requests
├── InputError                 3  the input is bad
│   ├── ArtifactError          3  a folder, graph or JSON file is broken, foreign or unsafe
│   └── PromptError            3  a prompt cannot be run as it stands
│       └── ContextLengthError 3  more positions than the session can hold
└── MissingError               4  the environment lacks a package, provider, driver or device
"""

from __future__ import annotations

from typing import ClassVar

MAX_LENGTH = 800
"""The length limit of a message, in characters."""

_HEAD, _TAIL = 500, 250


class EdgeError(Exception):
    """Root of the errors a user can act on; the message is one line: the problem, expected and found, the remedy.

    Args:
        message: The text, which may quote a file or another library's error: whitespace and line breaks are folded to
            single spaces, control characters are removed, and a long text loses its middle.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str) -> None:
        text = "".join(each for each in " ".join(message.split()) if each.isprintable())
        super().__init__(text if len(text) <= MAX_LENGTH else f"{text[:_HEAD]} ... {text[-_TAIL:]}")


class UsageError(EdgeError):
    """An argument or a parameter is out of range, or two of them contradict each other."""

    exit_code = 2


class EngineBusyError(UsageError):
    """An engine was used by two threads at once; it serves one caller at a time."""


class QueueFullError(UsageError):
    """As many requests wait for a slot as may; the same request may be taken a moment later."""


class EngineClosedError(UsageError):
    """An engine that is being closed takes no more requests."""


class InputError(EdgeError):
    """The input of a command or a call is bad."""

    exit_code = 3


class ArtifactError(InputError):
    """An artifact folder, a graph or one of its JSON files is broken, foreign or unsafe."""


class PromptError(InputError):
    """A prompt cannot be run as it stands."""


class ContextLengthError(PromptError):
    """A call would need more positions than the session can hold; nothing has been run."""


class MissingError(EdgeError):
    """The environment lacks something: a package, an execution provider, a driver, a device."""

    exit_code = 4
