"""The messages of a conversation, typed at a terminal or read from a pipe, of one line or of several."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TypeAlias

from minimind_edge.runtime.artifact.text_file import decode_text, has_wide_characters
from minimind_edge.runtime.errors import PromptError

PROMPT, NEXT_LINE = "> ", "... "

BLOCK = '"""'
"""The characters before and after a message of several lines."""

CONTINUATION = "\\"
"""The character that continues a line on the next one, at its end."""

ReadLine: TypeAlias = Callable[[str], "str | None"]
"""Reads a line, after showing the prompt that it is given; None at the end of the input."""


def is_at_terminal() -> bool:
    """Whether somebody types the messages."""
    return sys.stdin is not None and sys.stdin.isatty()


def typed_messages() -> Iterator[str]:
    """The messages that a user types, with history and editing where the system supports them."""
    with contextlib.suppress(ImportError):
        import readline

        # Text of several lines that is pasted becomes one message, where the terminal says what is pasted.
        readline.parse_and_bind("set enable-bracketed-paste on")
    return messages(_type, is_typed=True)


def piped_messages() -> Iterator[str]:
    """The messages of a pipe or a file, whose first bytes may be a byte order mark.

    Raises:
        PromptError: A line is not UTF-8.
    """
    lines = _piped_lines()
    return messages(lambda _prompt: next(lines, None))


def messages(read_line: ReadLine, *, is_typed: bool = False) -> Iterator[str]:
    """The messages that lines make up, without empty ones.

    A line is a message, unless it ends with a backslash, which continues it, or begins with three double quotes, which
    begin a message that ends with the next three.

    Args:
        read_line: Reads a line.
        is_typed: Whether Ctrl-C in a message of several lines only forgets the message.
    """
    while (line := read_line(PROMPT)) is not None:
        try:
            message = _whole_message(line, read_line)
        except KeyboardInterrupt:
            if not is_typed:
                raise
            _end_line()
            continue
        if message and not message.isspace():
            yield message


def _whole_message(line: str, read_line: ReadLine) -> str:
    """The message that begins with a line."""
    if line.lstrip().startswith(BLOCK):
        return _block(line.lstrip().removeprefix(BLOCK), read_line)
    lines = [line]
    while lines[-1].endswith(CONTINUATION):
        lines[-1] = lines[-1].removesuffix(CONTINUATION)
        following = read_line(NEXT_LINE)
        if following is None:
            break
        lines.append(following)
    return "\n".join(lines)


def _block(text: str, read_line: ReadLine) -> str:
    """The text up to the closing quotes, or to the end of the input; what follows them on their line is left out."""
    while BLOCK not in text and (line := read_line(NEXT_LINE)) is not None:
        text += f"\n{line}"
    return text.partition(BLOCK)[0].strip("\n")


def _type(prompt: str) -> str | None:
    try:
        return input(prompt)
    except EOFError:
        _end_line()
        return None


def _end_line() -> None:
    """Leave the line of the prompt."""
    print(file=sys.stderr)


def _piped_lines() -> Iterator[str]:
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
