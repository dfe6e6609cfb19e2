"""The jinja2 environment of chat templates: transformers' names and options, in a sandbox.

A template comes with the artifact, from anywhere: it must not reach the interpreter. The sandbox sees to that; it does
not keep a template from running or growing without end, for which `chat_template` renders unknown ones in a process
with limits. Importing this module imports jinja2.
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

from ..errors import ArtifactError, PromptError

MAX_LENGTH = 16_000_000
"""Characters that a rendered prompt may have: some 4 million tokens."""

MAX_REASON = 300
"""Characters of a template's own error that are passed on."""

_TEMPLATE_FAILURES = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What a template's own code can raise, apart from jinja2's errors and a lack of memory."""


class RejectionError(TemplateError):
    """The template called `raise_exception`: it will not have these messages."""


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
        """The text that a template makes of a context of JSON's own types.

        Raises:
            PromptError: The template refuses the messages.
            ArtifactError: The template is broken, or its text is too long.
        """
        try:
            return self._generate(name, context)
        except RejectionError as error:
            raise PromptError(f"the chat template refuses these messages: {_one_line(error)}") from error
        except (TemplateError, *_TEMPLATE_FAILURES) as error:
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
        """`render` for a request of a `LimitedProcess`: a template's name, and the context."""
        name, context = request
        return self.render(name, context)


def open_renderer(sources: Any) -> Any:
    """Open the handler of a `LimitedProcess` that renders templates; `sources` as `TemplateRenderer` takes them."""
    return TemplateRenderer(sources).answer


def broken_template(reason: str) -> ArtifactError:
    """The error of a template that cannot be rendered for its own fault."""
    return ArtifactError(f"the chat template cannot be rendered: {reason}; a raw prompt needs none")


def _one_line(error: Exception) -> str:
    """What an error says, without control characters and cut: the text may be the template's own."""
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
    """`{% generation %}` marks what the assistant said, for training; here it is a scope and no more."""

    tags = {"generation"}  # noqa: RUF012  jinja2 declares it so

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True)).set_lineno(line)


class _Namespace(Namespace):
    """`namespace(...)` without names that begin with an underscore: those lead to the interpreter."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        names = dict(*args[1:], **kwargs)
        for name in names:
            _refuse_underscore(name)
        Namespace.__init__(args[0], names)

    def __setitem__(self, name: str, value: Any) -> None:
        _refuse_underscore(name)
        Namespace.__setitem__(self, name, value)


class _Dict:
    """`dict(...)` without the attributes of the type."""

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
