"""`minimind-run --chat`: a conversation at the terminal, or line by line from a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from minimind_edge.runtime.errors import InputError

from .chat_input import is_at_terminal, piped_messages, typed_messages
from .entry import INTERRUPTED
from .run_complete import show, tell_tool_calls

if TYPE_CHECKING:
    from minimind_edge.runtime import Chat, Engine

    from .run_request import RunRequest

HELP = """\
/reset         forget the conversation
/system TEXT   forget the conversation, and begin the next one with another system message
/tool TEXT     give the model the result of a tool that it has called
/help          this list
/exit          leave (or Ctrl-D)
A message of several lines stands between \"\"\" and \"\"\", or continues where a line ends with a backslash.
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
        self._is_interactive = is_at_terminal()

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
            for message in self._messages(opening):
                if message == "/exit":
                    break
                self._answer(message)
        except KeyboardInterrupt:
            tell("")
            return 0 if self._is_interactive else INTERRUPTED
        return 0

    def _begin(self, system: str | None) -> Chat:
        return self._engine.chat(self._request.options, system=system, on_drop=tell_dropped)

    def _messages(self, opening: str | None) -> Iterator[str]:
        """The user's messages and commands."""
        if opening is not None:
            yield opening
        yield from typed_messages() if self._is_interactive else piped_messages()

    def _answer(self, message: str) -> None:
        """Run a command, or send the message to the model and print its answer."""
        command, _, rest = message.partition(" ")
        if command == "/help":
            tell(HELP)
        elif command == "/reset":
            self._chat.messages.clear()
        elif command == "/system":
            self._chat = self._begin(rest.strip() or None)
        elif command == "/tool":
            self._say(rest, role="tool")
        elif command.startswith("/"):
            tell(f"there is no command {command}; /help lists them")
        else:
            self._say(message)

    def _say(self, text: str, role: str = "user") -> None:
        """Send a message and print the answer; Ctrl-C ends it, also before its first word."""
        try:
            completion = self._chat.send(text, role)
            show(completion, self._request.printer(thinking=completion.prompt.opens_thinking))
            if tell_tool_calls(completion.result, completion.prompt, self._request.options) and self._is_interactive:
                tell("(/tool RESULT answers it)")
            self._request.tell_stats(completion.result, self._engine.operators)
        except InputError as error:
            if not self._is_interactive:
                raise
            tell(f"error: {error}")
        except KeyboardInterrupt:
            if not self._is_interactive:
                raise
            tell("")


def tell(text: str) -> None:
    """Print a message of the program, not of the model, on stderr."""
    print(text, file=sys.stderr)


def tell_dropped(messages: Sequence[Any]) -> None:
    """Tell the user that the oldest messages were dropped."""
    tell(f"(the context is full: the oldest {len(messages)} messages were forgotten)")
