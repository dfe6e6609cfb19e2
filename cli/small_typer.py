"""Commands from annotated functions: the part of typer that this package uses, on click alone.

typer needs rich and Pygments, 13 MB that a device would carry for the colours of its help; click comes with tokenizers
anyway. Names and keywords are typer's, so that its documentation holds.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import click
from click.exceptions import Abort, Exit

__all__ = ["Abort", "Argument", "BadParameter", "Exit", "Option", "Typer"]

BadParameter = click.BadParameter
Function = TypeVar("Function", bound=Callable[..., Any])

OPTIONS = "Options"
"""The section of the help for options that name none."""

METAVARS = {int: "N", float: "X"}
"""The words of the help for numbers."""

WIDEST = 100
"""Columns of the help, at most those of the terminal."""


class Argument:
    """What a positional parameter is for.

    Attributes:
        help: Its line in the help.
        metavar: What the usage line calls it; None for the parameter's name.
        show_default: Whether the help tells the default.
    """

    def __init__(self, help: str, *, metavar: str | None = None, show_default: bool = True) -> None:
        self.help, self.metavar, self.show_default = help, metavar, show_default


class Option:
    """What an option is called, takes and does.

    Attributes:
        names: Its names, `--on/--off` for both ways of a switch; empty for the parameter's name.
        help: Its line in the help.
        metavar: The word for its value; None for that of its type.
        min: The least number that it takes.
        max: The largest.
        show_default: Whether the help tells the default.
        rich_help_panel: The section of the help that it stands in.
        callback: Called with the value before the command is.
        is_eager: Whether it is handled before all others, as `--version` is.
    """

    def __init__(
        self,
        *names: str,
        help: str,
        metavar: str | None = None,
        min: float | None = None,
        max: float | None = None,
        show_default: bool = True,
        rich_help_panel: str = OPTIONS,
        callback: Callable[[Any], None] | None = None,
        is_eager: bool = False,
    ) -> None:
        self.names, self.help, self.metavar, self.min, self.max = names, help, metavar, min, max
        self.show_default, self.rich_help_panel = show_default, rich_help_panel
        self.callback, self.is_eager = callback, is_eager


class Word(click.Choice):  # type: ignore[type-arg]  # generic since click 8.2 only
    """One of an enumeration's values, handed over as its member."""

    def __init__(self, words: type[Enum]) -> None:
        super().__init__([str(member.value) for member in words])
        self._words = words

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The member of a word, which a default may be already."""
        if isinstance(value, self._words):
            return value
        return self._words(super().convert(value, param, ctx))


class DescribedArgument(click.Argument):
    """An argument with a line of its own in the help."""

    described: str


class PanelOption(click.Option):
    """An option that stands in a section of the help."""

    panel: str


class Sections(click.Command):
    """Help with a section for the arguments and one for each panel of options, in the order of the parameters."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            if isinstance(parameter, DescribedArgument):
                line = (parameter.make_metavar(*_context(ctx, parameter)), parameter.described)
                sections.setdefault("Arguments", []).append(line)
            elif (record := parameter.get_help_record(ctx)) is not None:
                sections.setdefault(getattr(parameter, "panel", OPTIONS), []).append(record)
        for title in sorted(sections, key=lambda title: title not in {"Arguments", OPTIONS}):
            with formatter.section(title):
                formatter.write_dl(sections[title])


class Commands(click.Group):
    """A program with several commands."""

    command_class = Sections


def _context(ctx: click.Context, parameter: click.Parameter) -> tuple[click.Context, ...]:
    """What `make_metavar` takes: click before 8.2 took nothing."""
    return (ctx,) if len(inspect.signature(parameter.make_metavar).parameters) else ()


class Typer:
    """A program: one command, or a group of them once it has a callback."""

    def __init__(self) -> None:
        self._commands: list[click.Command] = []
        self._group: click.Group | None = None

    def command(self, name: str | None = None, *, epilog: str | None = None) -> Callable[[Function], Function]:
        """Register a function as a command, called `name` or as the function is."""

        def register(function: Function) -> Function:
            called = name or function.__name__.replace("_", "-")
            self._commands.append(Sections(called, **_described(function), epilog=epilog))
            return function

        return register

    def callback(self, *, epilog: str | None = None) -> Callable[[Function], Function]:
        """Make it a group; the function's parameters are options of the program itself."""

        def register(function: Function) -> Function:
            self._group = Commands(**_described(function), epilog=epilog, no_args_is_help=False)
            return function

        return register

    def run(self, name: str, arguments: list[str]) -> Any:
        """Run the command that the arguments name, and return its result or the code it exits with.

        click's own `main` would end the process by itself, with another code, when the reader of stdout goes away.

        Args:
            name: What the help calls the program.
            arguments: The words after it.

        Raises:
            click.ClickException: The arguments are wrong.
        """
        command = self._command()
        try:
            with command.make_context(name, list(arguments)) as context:
                return command.invoke(context)
        except Exit as end:
            return end.exit_code

    def _command(self) -> click.Command:
        if self._group is None:
            (only,) = self._commands
            return only
        for command in self._commands:
            self._group.add_command(command)
        return self._group


def _described(function: Callable[..., Any]) -> dict[str, Any]:
    """What a click command takes from a function: itself, its docstring, and its parameters."""
    hints = get_type_hints(function, include_extras=True)
    parameters = [_parameter(each, hints[each.name]) for each in inspect.signature(function).parameters.values()]
    return {
        "callback": function,
        "help": inspect.getdoc(function),
        "params": parameters,
        "context_settings": {"max_content_width": WIDEST},
    }


def _parameter(parameter: inspect.Parameter, hint: Any) -> click.Parameter:
    """A click parameter from a function's."""
    if get_origin(hint) is not Annotated:
        raise TypeError(f"parameter {parameter.name!r} is not annotated with an Option or an Argument")
    kind, *notes = get_args(hint)
    required = parameter.default is inspect.Parameter.empty
    shared = {"required": required} if required else {"default": parameter.default}
    (note,) = (note for note in notes if isinstance(note, Option | Argument))
    kind, many = _element(kind)
    if isinstance(note, Argument):
        argument = DescribedArgument([parameter.name], type=_type(kind), metavar=note.metavar, **shared)
        argument.described = note.help
        return argument
    return _option(parameter.name, note, kind, many, shared)


def _option(name: str, note: Option, kind: type, many: bool, shared: dict[str, Any]) -> PanelOption:
    """A click option; a switch where its type is `bool`."""
    long = f"--{name.replace('_', '-')}"
    if kind is bool:
        takes: dict[str, Any] = {"is_flag": True}
        names = note.names or (f"{long}/--no-{long[2:]}",)
    else:
        word = note.metavar or METAVARS.get(kind)
        takes = {"type": _type(kind, note.min, note.max), "multiple": many, "metavar": word}
        names = note.names or (long,)
    default = shared.get("default")
    told = note.show_default and not many and default is not None and kind is not bool
    if many:
        shared = {}
    elif isinstance(default, Enum):
        shared = {"default": default.value}
    call = note.callback
    option = PanelOption(
        [*names, name],
        help=note.help,
        show_default=told,
        is_eager=note.is_eager,
        callback=None if call is None else lambda _ctx, _param, value: _called(call, value),
        **takes,
        **shared,
    )
    option.panel = note.rich_help_panel
    return option


def _called(call: Callable[[Any], None], value: Any) -> Any:
    call(value)
    return value


def _element(kind: Any) -> tuple[type, bool]:
    """The type of one value, and whether there may be several: `list[str] | None` is `str`, True."""
    options = [each for each in get_args(kind) if each is not NoneType]
    if get_origin(kind) is list:
        return options[0], True
    return _element(options[0]) if options else (kind, False)


def _type(kind: type, least: float | None = None, most: float | None = None) -> Any:
    """What click converts a word with."""
    if issubclass(kind, Enum):
        return Word(kind)
    if issubclass(kind, Path):
        return click.Path(path_type=Path)
    if least is None and most is None:
        return kind
    bounds: dict[str, Any] = {"min": least, "max": most}
    return click.IntRange(**bounds) if kind is int else click.FloatRange(**bounds)
