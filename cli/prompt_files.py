"""The files of `minimind-run`: messages, tools, and many prompts as JSON Lines."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import msgspec

from minimind_edge.runtime.artifact.json_file import check_json, kind, parse_object
from minimind_edge.runtime.artifact.text_file import decode_text, read_bytes
from minimind_edge.runtime.errors import PromptError, UsageError
from minimind_edge.runtime.options import FILTERS, GenerationOptions
from minimind_edge.runtime.text.chat_template import Message
from minimind_edge.runtime.text.prompt import PromptLike

MAX_BYTES = 1 << 30
"""The size limit of a file of prompts, in bytes."""

OPTIONS = tuple(field.name for field in fields(GenerationOptions))
KEYS = ("prompt", "messages", "id", *OPTIONS)
"""The keys that a line of `--prompts` may have."""


@dataclass(frozen=True)
class PromptLine:
    """A line of `--prompts`.

    Attributes:
        prompt: A text or messages.
        options: The options of the command, with those of the line in their place.
        id: The line's own `id`, a string or a number, which the line of its answer repeats; None where it has none.
    """

    prompt: PromptLike
    options: GenerationOptions
    id: str | int | None = None


def read_messages(path: Path) -> list[Message]:
    """Read a conversation: a JSON list of messages, each an object with a role.

    Args:
        path: The file; `-` is stdin.

    Raises:
        InputError: The file cannot be read, or holds something else.
    """
    messages = read_list(path, "messages")
    check_messages(messages, str(path))
    return messages


def read_tools(path: Path) -> list[dict[str, Any]]:
    """Read the functions that a model may call: a JSON list of their schemas.

    Args:
        path: The file; `-` is stdin. Each schema is `{"name": ..., "parameters": ...}`, alone or under the key
            `function` as in OpenAI's interface, and reaches the chat template as it is.

    Raises:
        InputError: The file cannot be read, or holds something else.
    """
    tools = read_list(path, "function schemas")
    check_tools(tools, str(path))
    return tools


def read_prompts(path: Path, options: GenerationOptions) -> list[PromptLine]:
    """Read prompts as JSON Lines, and check every line before any of them is run; empty lines are left out.

    Args:
        path: The file; `-` is stdin.
        options: The options of the command, which those of a line replace.

    Raises:
        InputError: The file cannot be read, or a line is not an object with a prompt or messages and known options.
    """
    text = read_text_of(path)
    lines = ((number, line) for number, line in enumerate(text.split("\n"), 1) if line and not line.isspace())
    return [parse_line(line, f"{path}, line {number}", options) for number, line in lines]


def parse_line(line: str, where: str, options: GenerationOptions) -> PromptLine:
    """Parse a line of `--prompts`.

    Args:
        line: The line: an object with `prompt` or `messages`, and with `id` and options where it has some.
        where: The line in messages.
        options: The options of the command, which those of the line replace.

    Raises:
        InputError: The line is something else.
    """
    values = parse_object(line.encode(), where)
    for key in values:
        if key not in KEYS:
            near = difflib.get_close_matches(key, KEYS, n=1)
            raise PromptError(f"{where}: there is no option {key!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    if ("prompt" in values) == ("messages" in values):
        raise PromptError(f"{where}: expected either a prompt or messages")
    label = values.get("id")
    if label is not None and (isinstance(label, bool) or not isinstance(label, (str, int))):
        raise PromptError(f"{where}: id is {kind(label)}: expected a string or an integer")
    return PromptLine(prompt_of(values, where), options_of(values, where, options), label)


def prompt_of(values: Mapping[str, Any], where: str) -> PromptLike:
    """The prompt of a line, checked.

    Raises:
        PromptError: It is neither a text nor a list of messages.
    """
    if "messages" in values:
        messages: list[Message] = check_list(values["messages"], "messages", where)
        check_messages(messages, where)
        return messages
    prompt = values["prompt"]
    if not isinstance(prompt, str) or not prompt or prompt.isspace():
        raise PromptError(f"{where}: prompt is {kind(prompt)}: expected a text of at least one word")
    return prompt


def options_of(values: Mapping[str, Any], where: str, options: GenerationOptions) -> GenerationOptions:
    """The options of the command, with those of a line in their place.

    Raises:
        InputError: An option of the line is of the wrong type.
    """
    given = {name: values[name] for name in OPTIONS if name in values}
    if given.get("tools") is not None:
        check_tools(check_list(given["tools"], "function schemas", where), where)
    checked = check_json(given, GenerationOptions, where)
    if any(given.get(name) is not None for name in FILTERS):
        options = replace(options, greedy=None)  # the line asks for sampling
    return replace(options, **{name: getattr(checked, name) for name in given})


def check_messages(messages: Sequence[Message], where: str) -> None:
    """Check that messages are there, and that each has a role.

    Raises:
        PromptError: There is no message, or one has no role.
    """
    if not messages:
        raise PromptError(f"{where}: the conversation is empty: expected at least one message")
    for index, message in enumerate(messages):
        if not isinstance(message.get("role"), str):
            raise PromptError(f'{where}: message {index} has no role; expected {{"role": "user", "content": "..."}}')


def check_tools(tools: Sequence[Mapping[str, Any]], where: str) -> None:
    """Check that each schema names its function.

    Raises:
        PromptError: A schema has no name.
    """
    for index, tool in enumerate(tools):
        function = tool.get("function", tool)
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise PromptError(
                f"{where}: function schema {index} has no name; expected "
                '{"type": "function", "function": {"name": ..., "description": ..., "parameters": ...}}'
            )


def read_list(path: Path, what: str) -> list[Any]:
    """Read a JSON list of objects.

    Args:
        path: The file; `-` is stdin.
        what: The objects, for messages.

    Raises:
        InputError: The file cannot be read, or holds something else.
    """
    try:
        content = msgspec.json.decode(read_text_of(path))
    except (ValueError, RecursionError) as error:
        raise PromptError(f"{path} is not valid JSON: {error}") from error
    return check_list(content, what, str(path))


def check_list(content: Any, what: str, where: str) -> list[Any]:
    """The content, if it is a list of objects.

    Raises:
        PromptError: It is something else.
    """
    if not isinstance(content, list):
        raise PromptError(f"{where}: expected a list of {what}, found {kind(content)}")
    for item in content:
        if not isinstance(item, dict):
            raise PromptError(f"{where}: expected a list of {what}, each an object; one is {kind(item)}")
    return content


def read_text_of(path: Path) -> str:
    """The text of a file, or of stdin where the path is `-`.

    Raises:
        InputError: It cannot be read, is too large, or is not text.
        UsageError: Stdin is closed.
    """
    if str(path) != "-":
        return decode_text(read_bytes(path, MAX_BYTES), str(path), PromptError)
    if sys.stdin is None:
        raise UsageError("stdin is closed: name a file in place of -")
    return decode_text(sys.stdin.buffer.read(), "stdin", PromptError)
