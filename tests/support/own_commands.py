"""The project's own command lines, checked against the parsers of its programs without running anything."""

from __future__ import annotations

import re
from functools import cache
from importlib import import_module
from typing import Any

import typer

PROGRAMS = {f"minimind-{name}": f"minimind_edge.cli.{name}_app" for name in ("export", "run", "serve", "bench")}
UsageError = next(each for each in typer.BadParameter.__mro__ if each.__name__ == "UsageError")
PLACEHOLDER = re.compile(r"[A-Z][A-Z_]*")

ARTIFACT = r"(hf://.+|.+\.(onnx|plan)|[^.]+|artifact=.+)"
CHECKPOINT = r"(hf://.+|.+\.(pth|safetensors)|[^.]+)"
FOLDER = r"[^.]+"
SHAPES = {
    ("run", "engine"): ARTIFACT,
    ("serve", "artifacts"): ARTIFACT,
    ("bench", "artifact"): ARTIFACT,
    ("onnx", "checkpoint"): CHECKPOINT,
    ("onnx", "output"): FOLDER,
    ("engine", "source"): rf"{CHECKPOINT}|{ARTIFACT}",
    ("engine", "output"): r".+\.plan",
    ("verify", "artifact"): ARTIFACT,
    ("verify", "against"): CHECKPOINT,
    ("eval", "artifact"): ARTIFACT,
    ("web", "source"): CHECKPOINT,
    ("web", "output"): FOLDER,
    ("bundle", "artifact"): FOLDER,
    ("bundle", "output"): FOLDER,
}
"""What the files of a command look like, by the command and the parameter."""


@cache
def program(name: str) -> Any:
    """The click command of a program."""
    return typer.main.get_command(import_module(PROGRAMS[name]).app)


def options() -> set[str]:
    """The names of all options of all programs."""
    found = set()
    for name in PROGRAMS:
        main = program(name)
        for command in (main, *getattr(main, "commands", {}).values()):
            context = command.context_class(command)
            for parameter in command.get_params(context):
                found |= {each for each in (*parameter.opts, *parameter.secondary_opts) if each.startswith("-")}
    return found


def fault(words: list[str], *, is_complete: bool = True) -> str | None:
    """What is wrong with a command line, or None.

    Args:
        words: The program's name and its arguments; a word in capitals stands for any value.
        is_complete: Whether required arguments and options must be there.
    """
    command, given = program(words[0]), words[1:]
    if getattr(command, "commands", None) and given and not given[0].startswith("-"):
        if given[0] not in command.commands:
            return f"{words[0]} has no command {given[0]}"
        command, given = command.commands[given[0]], given[1:]
    name = command.name.removeprefix("minimind-")
    name = words[0].removeprefix("minimind-") if command is program(words[0]) else name
    context = command.context_class(command, info_name=name)
    try:
        values, rest, _ = command.make_parser(context).parse_args(list(given))
    except UsageError as error:
        return error.format_message()
    if rest:
        return f"{' '.join(rest)} is one argument too many"
    for parameter in command.get_params(context):
        value = values.get(parameter.name)
        if value is None or value in ([], ()):
            if parameter.required and is_complete:
                return f"{parameter.name} is missing"
            continue
        found = value_fault(name, parameter, context, value if isinstance(value, (list, tuple)) else [value])
        if found:
            return found
    return None


def value_fault(name: str, parameter: Any, context: Any, values: Any) -> str | None:
    """What is wrong with the values of a parameter, or None."""
    shape = SHAPES.get((name, parameter.name))
    for value in values:
        if not isinstance(value, str) or PLACEHOLDER.fullmatch(value):
            continue
        if shape and not re.fullmatch(shape, value.removeprefix("./").rstrip("/")):
            return f"{value} is no {parameter.name}"
        try:
            parameter.type.convert(value, parameter, context)
        except UsageError as error:
            return error.format_message()
    return None
