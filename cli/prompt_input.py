"""Reading the prompt from the command line or from stdin."""

from __future__ import annotations

import sys

from minimind_edge.runtime.artifact.text_file import decode_text
from minimind_edge.runtime.errors import PromptError, UsageError


def read_prompt(argument: str | None) -> str:
    """Return the prompt from the argument or from stdin.

    Args:
        argument: The command's PROMPT; None or `-` reads stdin, without its last line break.

    Raises:
        UsageError: There is no prompt, or an empty one.
        PromptError: Stdin is not UTF-8.
    """
    if argument is None and (sys.stdin is None or sys.stdin.isatty()):
        raise UsageError("no prompt: give one, pipe one in, or talk with --chat")
    prompt = read_stdin() if argument in {None, "-"} else argument
    if not prompt or prompt.isspace():
        raise UsageError("the prompt is empty: expected at least one word")
    return prompt


def read_stdin() -> str:
    """Return all of stdin as text, without its byte order mark and its last line break.

    Raises:
        PromptError: Stdin is not UTF-8.
        UsageError: Stdin is closed.
    """
    if sys.stdin is None:
        raise UsageError("no prompt: stdin is closed; give the prompt as an argument")
    return decode_text(sys.stdin.buffer.read(), "stdin", PromptError).removesuffix("\n").removesuffix("\r")


def parse_token_ids(text: str) -> list[int]:
    """Parse token ids with commas between them, such as `1,2,3`; spaces are allowed.

    Raises:
        UsageError: Something between the commas is not a whole number.
    """
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(
            f"--ids expects token ids with commas between them, such as 1,2,3; found {text[:80]!r}"
        ) from None
