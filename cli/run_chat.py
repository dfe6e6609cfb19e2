"""`minimind-run --chat`: a conversation at the terminal, or line by line from a pipe."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from minimind_edge.runtime.artifact.text_file import decode_text, has_wide_characters
from minimind_edge.runtime.errors import InputError, PromptError

from .entry import INTERRUPTED
from .run_complete import show

if TYPE_CHECKING:
    from minimind_edge.runtime import Chat, Engine

    from .run_request import RunRequest

HELP = """\
/reset         forget the conversation
/system TEXT   forget the conversation, and begin the next one with another system message
/help          this list
/exit          leave (or Ctrl-D)
Ctrl-C ends an answer; at the prompt it leaves."""


class Conversation:
    """A conversation of a user with a model.

    Args:
        engine: The engine that answers.
        request: The options of the command.
    """

    def __init__(self, engine: Engine, request: RunRequest) -> None:
        self._engine = engine
        self._request = request
        self._chat = self._begin(request.options.system)
        self._is_interactive = sys.stdin is not None and sys.stdin.isatty()

    def run(self, opening: str | None = None) -> int:
        """Answer lines until there are no more, or the user leaves.

        Args:
            opening: The first message; None reads it from stdin.

        Returns:
            The exit code: 0, or that of Ctrl-C between the lines of a pipe.
        """
        if self._is_interactive:
            tell("/help lists the commands, Ctrl-D leaves")
        try:
            for line in self._lines(opening):
                if line == "/exit":
                    break
                self._answer(line)
        except KeyboardInterrupt:
            tell("")
            return 0 if self._is_interactive else INTERRUPTED
        return 0

    def _begin(self, system: str | None) -> Chat:
        return self._engine.chat(self._request.options, system=system, on_drop=tell_dropped)

    def _lines(self, opening: str | None) -> Iterator[str]:
        """The user's messages, without empty lines."""
        lines = typed_lines() if self._is_interactive else piped_lines()
        if opening is not None:
            yield opening
        yield from (line for line in lines if line and not line.isspace())

    def _answer(self, line: str) -> None:
        """Run a command, or send the line to the model and print its answer."""
        command, _, rest = line.partition(" ")
        if command == "/help":
            tell(HELP)
        elif command == "/reset":
            self._chat.messages.clear()
        elif command == "/system":
            self._chat = self._begin(rest.strip() or None)
        elif command.startswith("/"):
            tell(f"there is no command {command}; /help lists them")
        else:
            self._say(line)

    def _say(self, line: str) -> None:
        """Send a message and print the answer; Ctrl-C ends it, also before its first word."""
        try:
            completion = self._chat.send(line)
            show(completion, self._request.printer(thinking=completion.prompt.opens_thinking))
            self._request.tell_stats(completion.result)
        except InputError as error:
            if not self._is_interactive:
                raise
            tell(f"error: {error}")
        except KeyboardInterrupt:
            if not self._is_interactive:
                raise
            tell("")


def typed_lines() -> Iterator[str]:
    """The lines that a user types, with history and editing where the system supports them."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 - importing it gives input() its editing
    while True:
        try:
            yield input("> ")
        except EOFError:
            tell("")
            return


def piped_lines() -> Iterator[str]:
    """The lines of a pipe or a file, whose first bytes may be a byte order mark.

    Raises:
        PromptError: A line is not UTF-8.
    """
    if sys.stdin is None:
        return
    first = sys.stdin.buffer.readline()
    if has_wide_characters(first):  # line breaks of several bytes: lines can be split only after reading everything
        yield from decode_text(first + sys.stdin.buffer.read(), "stdin", PromptError).splitlines()
        return
    raw = first
    while raw:
        yield decode_text(raw, "stdin", PromptError).rstrip("\r\n")
        raw = sys.stdin.buffer.readline()


def tell(text: str) -> None:
    """Print a message of the program, not of the model, on stderr."""
    print(text, file=sys.stderr)


def tell_dropped(messages: Sequence[Any]) -> None:
    """Tell the user that the oldest messages were dropped."""
    tell(f"(the context is full: the oldest {len(messages)} messages were forgotten)")
