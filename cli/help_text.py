"""The help of every program: plain text, its options in groups, readable down to 40 columns."""

from __future__ import annotations

import shutil
from typing import Any

from typer.core import TyperCommand, TyperGroup

WIDEST = 100
"""The most columns that a help uses."""

NARROW = 70
"""The columns below which a description has lines of its own, under its option."""

NAME_WIDTH = 8
"""The longest name, in characters, that shares its line with its description also in a narrow terminal."""

OPTIONS = "Options"

COMPLETION = ("install_completion", "show_completion")
"""The options that typer adds for the completion of shells; they come last."""


class HelpCommand(TyperCommand):
    """A command whose help is plain text in groups, the same with and without rich."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the whole help, as wide as the terminal."""
        formatter.width = columns()
        super().format_help(ctx, formatter)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments and the groups of options."""
        write_groups(self, ctx, formatter)


class HelpGroup(TyperGroup):
    """A program of several commands, whose help is plain text and ends with the commands."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the whole help, as wide as the terminal."""
        formatter.width = columns()
        super().format_help(ctx, formatter)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the commands, each with the first sentence of its help, and the options."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [(name, command.get_short_help_str(limit=1000)) for name, command in commands if command is not None]
        write_rows(formatter, "Commands", rows)
        write_groups(self, ctx, formatter)


def columns() -> int:
    """The columns that a help may use: those of the terminal, without the last one, up to `WIDEST`."""
    return max(20, min(shutil.get_terminal_size().columns - 1, WIDEST))


def write_groups(command: Any, ctx: Any, formatter: Any) -> None:
    """Write the parameters of a command, those of one `rich_help_panel` under its name.

    Args:
        command: The command.
        ctx: Its context.
        formatter: The formatter of click, or of typer's copy of it.
    """
    groups: dict[str, list[tuple[str, str]]] = {}
    for parameter in sorted(command.get_params(ctx), key=lambda each: each.name in COMPLETION):
        record = parameter.get_help_record(ctx)
        if record is not None:
            is_argument = parameter.param_type_name == "argument"
            name = "Arguments" if is_argument else getattr(parameter, "rich_help_panel", None) or OPTIONS
            groups.setdefault(name, []).append(record)
    for name, rows in groups.items():
        write_rows(formatter, name, rows)


def write_rows(formatter: Any, title: str, rows: list[tuple[str, str]]) -> None:
    """Write a group of names and descriptions, in two columns where there is room."""
    longest = max((len(name) for name, _ in rows), default=0)
    is_narrow = formatter.width < NARROW and longest > NAME_WIDTH
    with formatter.section(title):
        formatter.write_dl(rows, col_max=4 if is_narrow else 30)
