"""The prompt of `minimind-run`: an argument, stdin, or a file of messages or of many prompts."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from minimind_edge.runtime.artifact.text_file import decode_text
from minimind_edge.runtime.errors import PromptError, UsageError

if TYPE_CHECKING:
    from minimind_edge.runtime.options import GenerationOptions
    from minimind_edge.runtime.text.prompt import PromptLike

    from .prompt_files import PromptLine
    from .run_request import RunRequest


@dataclass(frozen=True)
class RunInput:
    """Where the prompt comes from, of which one place is named.

    Attributes:
        prompt: The command's PROMPT; None or `-` stands for stdin where no file is named.
        messages: File of `--messages`, None where there is none.
        prompts: File of `--prompts`, None where there is none.
    """

    prompt: str | None = None
    messages: Path | None = None
    prompts: Path | None = None

    def check(self, request: RunRequest) -> None:
        """Check that one place is named, and that it suits the other options.

        Raises:
            UsageError: Two places or options exclude each other.
        """
        files = [name for name, file in (("--messages", self.messages), ("--prompts", self.prompts)) if file]
        rivals = {
            "--prompts": len(files) > 1,
            "PROMPT": self.prompt is not None,
            "--chat": request.chat,
            "--ids": request.ids,
            "--raw": self.messages is not None and request.options.raw,
            "--json-indent": self.prompts is not None and request.json_indent,
        }
        for name, is_given in rivals.items():
            if files and is_given:
                raise UsageError(f"{files[0]} and {name} exclude each other: leave one out")

    def read_lines(self, options: GenerationOptions) -> list[PromptLine] | None:
        """The lines of `--prompts`; None where it is not given.

        Args:
            options: The options of the command, which those of a line replace.

        Raises:
            InputError: The file is not as it must be.
        """
        if self.prompts is None:
            return None
        from .prompt_files import read_prompts

        return read_prompts(self.prompts, options)

    def read_prompt(self, *, ids: bool) -> PromptLike:
        """The one prompt: messages, text, or token ids.

        Args:
            ids: Whether the text is a list of token ids.

        Raises:
            UsageError: There is no prompt, or something that is no token id in it.
            InputError: A file or stdin is not as it must be.
        """
        if self.messages is not None:
            from .prompt_files import read_messages

            return read_messages(self.messages)
        text = read_prompt(self.prompt)
        return parse_token_ids(text) if ids else text


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
