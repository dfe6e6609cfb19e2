"""The jinja2 environment of chat templates: transformers' names and options, in a sandbox with a budget.

A template comes with the artifact, from anywhere: it must neither reach the interpreter nor run or grow without end.
Importing this module imports jinja2.
"""

from __future__ import annotations

import datetime
import functools
import json
from collections.abc import Callable, Iterator, Sized
from typing import Any, NoReturn

from jinja2 import TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace, pass_context
from jinja2.visitor import NodeTransformer

MAX_STEPS = 1_000_000
"""Loop rounds and filters of one rendering: about a second; MiniMind's templates take less than a hundred a message."""

CALL_STEPS = 10
"""What a call costs, in steps: it takes about so many times as long as an empty round of a loop."""

MAX_SIZE = 16_000_000
"""Characters of a text, or items of a list, that a template may make; a rendered prompt of 4 million tokens."""

MAX_INTEGER_BITS = 4096


class RejectionError(TemplateError):
    """The template called `raise_exception`: it will not have these messages."""


class BudgetError(TemplateError):
    """The template ran or grew past what any chat needs."""


class Budget:
    """Counts what a rendering spends."""

    def __init__(self) -> None:
        self._steps = 0

    def reset(self) -> None:
        """Start a new rendering."""
        self._steps = 0

    def spend(self, steps: int) -> None:
        """Count steps.

        Raises:
            BudgetError: There are too many.
        """
        self._steps += steps
        if self._steps > MAX_STEPS:
            raise BudgetError(f"it takes more than {MAX_STEPS} steps")

    def weigh(self, value: Any) -> Any:
        """Count a value that was made by its size, and hand it back.

        Raises:
            BudgetError: It is too large.
        """
        if isinstance(value, int):
            self.check_bits(value.bit_length())
            return value
        size = len(value) if isinstance(value, (str, list, tuple, dict)) else 0
        self.check_size(size)
        self.spend(1 + size // 1000)
        return value

    def check_size(self, size: int) -> None:
        """Refuse a text or list of so many items.

        Raises:
            BudgetError: It is too large.
        """
        if size > MAX_SIZE:
            raise BudgetError(f"it makes a text or list of more than {MAX_SIZE} items")

    def check_bits(self, bits: int) -> None:
        """Refuse a number of so many bits.

        Raises:
            BudgetError: There are too many.
        """
        if bits > MAX_INTEGER_BITS:
            raise BudgetError(f"it makes a number of more than {MAX_INTEGER_BITS} bits")

    def check_arguments(self, arguments: Any) -> None:
        """Refuse numbers with which `center`, `indent` and the like would make a text too large.

        Raises:
            BudgetError: One is too large.
        """
        if any(isinstance(argument, int) and abs(argument) > MAX_SIZE for argument in arguments):
            raise BudgetError(f"it calls a function with a number over {MAX_SIZE}")


class TemplateEnvironment(ImmutableSandboxedEnvironment):
    """Renders chat templates as transformers does, within a budget.

    Source:
        transformers, "Writing a chat template": trim_blocks, lstrip_blocks, loopcontrols, the `generation` block,
        `raise_exception`, `strftime_now`, and a `tojson` that escapes nothing.
    """

    intercepted_binops = frozenset({"+", "*", "**"})

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationBlock, loopcontrols])
        self.budget = Budget()
        self.filters["tojson"] = _to_json
        self.filters = {name: self._within_budget(function) for name, function in self.filters.items()}
        self.filters[_GUARD] = _guard
        self.globals["raise_exception"] = _raise_exception
        self.globals["strftime_now"] = _strftime_now
        self.globals["namespace"] = _Namespace
        self.globals["dict"] = _Dict()

    def call(self, context: Context, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call from a template: methods, macros, `loop(...)`."""
        self.budget.check_arguments((*args, *kwargs.values()))
        self.budget.spend(CALL_STEPS)
        return self.budget.weigh(super().call(context, function, *args, **kwargs))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Compute `left operator right`, unless the result would be too large."""
        if operator == "*":
            for sequence, count in ((left, right), (right, left)):
                if isinstance(count, int) and isinstance(sequence, Sized):
                    self.budget.check_size(len(sequence) * count)
        elif operator == "**" and isinstance(left, int) and isinstance(right, int):
            self.budget.check_bits(left.bit_length() * right)
        return self.budget.weigh(super().call_binop(context, operator, left, right))

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        template = Parser(self, source, name, filename).parse()
        _GuardLoops(self).visit(template)
        return template

    def _within_budget(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def bounded(*args: Any, **kwargs: Any) -> Any:
            self.budget.check_arguments((*args, *kwargs.values()))
            return self.budget.weigh(function(*args, **kwargs))

        return bounded


_GUARD = "guard of loops and joins"
"""A filter's name that no template can spell."""


@pass_context
def _guard(context: Context, value: Any) -> Any:
    """Count what a loop runs over before it runs; what has no length is counted on the way."""
    budget: Budget = context.environment.budget  # type: ignore[attr-defined]
    if isinstance(value, Sized):
        budget.spend(len(value))
        return budget.weigh(value)
    return _count(value, budget) if isinstance(value, Iterator) else value


def _count(items: Iterator[Any], budget: Budget) -> Iterator[Any]:
    for item in items:
        budget.spend(1)
        yield item


class _GuardLoops(NodeTransformer):
    """Puts the guard around what a `for` runs over and around what `~` joins."""

    def __init__(self, environment: TemplateEnvironment) -> None:
        self._environment = environment

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802  the visitor calls it by the node's name
        node = self.generic_visit(node)  # type: ignore[assignment]
        node.iter = self._guarded(node.iter)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        return self._guarded(self.generic_visit(node))

    def _guarded(self, node: nodes.Node) -> nodes.Filter:
        guard = nodes.Filter(node, _GUARD, [], [], None, None)
        return guard.set_lineno(node.lineno).set_environment(self._environment)  # type: ignore[return-value]


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
