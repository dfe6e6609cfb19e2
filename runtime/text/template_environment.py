"""The jinja2 environment of chat templates: transformers' names and options, in a sandbox.

An artifact's template is not trusted and must not reach the interpreter, which the sandbox ensures. It does not stop
templates that run or grow without end, so `chat_template` renders unknown ones in a process with limits. Importing
this module imports jinja2.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from typing import Any, NoReturn

from jinja2 import Template, TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from ..errors import ArtifactError, EdgeError, PromptError

MAX_LENGTH = 16_000_000
"""The length limit of a rendered prompt in characters, some 4 million tokens."""

MAX_REASON = 300
"""The length in characters to which an error of a template is cut."""


class RejectionError(TemplateError):
    """The template called `raise_exception` to refuse the messages."""


class TemplateRenderer:
    """Renders the templates of one model; compiles each when it is first used.

    Args:
        sources: The jinja2 text of each template by name.
    """

    def __init__(self, sources: Mapping[str, str]) -> None:
        self._sources = sources
        self._environment = _environment()
        self._compiled: dict[str, Template] = {}

    def render(self, name: str, context: Mapping[str, Any]) -> str:
        """Render a template with a context of JSON values.

        Raises:
            PromptError: The template refuses the messages.
            ArtifactError: The template is broken, or its text is too long.
        """
        try:
            return self._generate(name, context)
        except RejectionError as error:
            raise PromptError(f"the chat template refuses these messages: {_one_line(error)}") from error
        except (EdgeError, MemoryError):  # its process ends where the memory does
            raise
        except Exception as error:  # a template calls what jinja2 and Python have, which raise errors of every kind
            raise broken_template(_one_line(error)) from error

    def _generate(self, name: str, context: Mapping[str, Any]) -> str:
        if name not in self._compiled:
            self._compiled[name] = self._environment.from_string(self._sources[name])
        pieces: list[str] = []
        length = 0
        for piece in self._compiled[name].generate(context):
            pieces.append(piece)
            length += len(piece)
            if length > MAX_LENGTH:
                raise broken_template(f"it makes more than {MAX_LENGTH} characters")
        return "".join(pieces)

    def answer(self, request: Any) -> str:
        """Answer a request of a `LimitedProcess`, a template's name and the context, by `render`."""
        name, context = request
        return self.render(name, context)


def open_renderer(sources: Any) -> Any:
    """Open the handler of a `LimitedProcess` that renders templates; `sources` are those of `TemplateRenderer`."""
    return TemplateRenderer(sources).answer


def broken_template(reason: str) -> ArtifactError:
    """The error for a template that cannot be rendered."""
    return ArtifactError(f"the chat template cannot be rendered: {reason}; a raw prompt needs none")


def _one_line(error: Exception) -> str:
    """An error's message without control characters, cut to `MAX_REASON`, because a template can set its text."""
    text = "".join(character if character.isprintable() else " " for character in str(error))
    return text[:MAX_REASON].strip() or type(error).__name__


def _environment() -> ImmutableSandboxedEnvironment:
    """The environment that transformers renders chat templates in.

    Source:
        transformers, "Writing a chat template": trim_blocks, lstrip_blocks, loopcontrols, the `generation` block,
        `raise_exception`, `strftime_now`, and a `tojson` that escapes nothing.
    """
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationBlock, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    environment.globals["namespace"] = _Namespace
    environment.globals["dict"] = _Dict()
    return environment


class _GenerationBlock(Extension):
    """The block `{% generation %}`, which marks the assistant's text for training; here it is only a scope."""

    tags = {"generation"}  # noqa: RUF012  jinja2 declares it so

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True)).set_lineno(line)


class _Namespace(Namespace):
    """The function `namespace(...)` without names that begin with an underscore, which lead to the interpreter."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        names = dict(*args[1:], **kwargs)
        for name in names:
            _refuse_underscore(name)
        Namespace.__init__(args[0], names)

    def __setitem__(self, name: str, value: Any) -> None:
        _refuse_underscore(name)
        Namespace.__setitem__(self, name, value)


class _Dict:
    """The function `dict(...)` without the attributes of the type."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)


def _refuse_underscore(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace cannot hold {name!r}: its name begins with an underscore")


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> NoReturn:
    raise RejectionError(message)


def _strftime_now(form: str) -> str:
    return datetime.datetime.now().strftime(form)
