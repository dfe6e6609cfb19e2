"""A model's chat template: from messages to the text of a prompt, as transformers renders it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from ..artifact.json_object import JsonObject
from ..errors import ArtifactError, PromptError

if TYPE_CHECKING:
    from jinja2 import Template

    from .template_environment import TemplateEnvironment

Message: TypeAlias = Mapping[str, Any]
"""`{"role": "user", "content": "..."}`, with whatever else the template knows, such as `tool_calls`."""

MAX_BYTES = 1 << 20
"""Largest template that is read, in bytes; the largest in use have some 30 thousand."""

REASONING_NAMES = ("reasoning_content", "thinking", "reasoning")
"""Under which names a message may tell its reasoning; templates read the first one."""

_TEMPLATE_FAILURES = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What a template's own code can raise beside jinja2's errors."""


class ChatTemplate:
    """Renders messages to a prompt; compiles, and imports jinja2, at the first rendering.

    Args:
        sources: The jinja2 text by name: `default`, and `tool_use` where tools have a template of their own.
        special_tokens: Variables of the template, such as `bos_token`.
    """

    def __init__(self, sources: Mapping[str, str], special_tokens: Mapping[str, str] | None = None) -> None:
        self._sources = dict(sources)
        self._special_tokens = dict(special_tokens or {})
        self._compiled: dict[str, Template] = {}
        self._environment: TemplateEnvironment | None = None

    @classmethod
    def find(
        cls, file: Path | None, config: JsonObject, special_tokens: Mapping[str, str] | None = None
    ) -> ChatTemplate | None:
        """The template of an artifact, None where it has none.

        Args:
            file: `chat_template.jinja`, None where there is none; goes before the config's template.
            config: The content of `tokenizer_config.json`.
            special_tokens: Variables of the template.

        Raises:
            ArtifactError: The file is no text, or the config holds something else under `chat_template`.
        """
        sources = _read(file) if file else _from_config(config)
        if sources and "default" not in sources:
            raise ArtifactError(f"{config.where}: there is no chat template named default, only {', '.join(sources)}")
        return cls(sources, special_tokens) if sources else None

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = False,
        **variables: Any,
    ) -> str:
        """The prompt's text.

        Args:
            messages: The conversation, oldest first; at least one.
            tools: JSON schemas of the functions that the model may call.
            documents: Texts for retrieval, where the template knows of them.
            add_generation_prompt: Whether to open the assistant's turn at the end.
            variables: More of what the template reads, such as `enable_thinking`.

        Raises:
            PromptError: There is no message, a value is not of JSON's types, or the template refuses the messages.
            ArtifactError: The template is broken, or runs or grows without end.
        """
        if not messages:
            raise PromptError("the conversation is empty: expected at least one message")
        context = {
            **self._special_tokens,
            **variables,
            "messages": [_complete(message) for message in messages],
            "tools": tools,
            "documents": documents,
            "add_generation_prompt": add_generation_prompt,
        }
        name = "tool_use" if tools is not None and "tool_use" in self._sources else "default"
        plain = {key: _plain(value) for key, value in context.items()}
        with _told_in_one_line():
            return self._generate(name, plain)

    def _generate(self, name: str, context: Mapping[str, Any]) -> str:
        if self._environment is None:
            from .template_environment import TemplateEnvironment

            self._environment = TemplateEnvironment()
        budget = self._environment.budget
        budget.reset()
        if name not in self._compiled:
            self._compiled[name] = self._environment.from_string(self._sources[name])
        pieces: list[str] = []
        length = 0
        for piece in self._compiled[name].generate(context):
            pieces.append(piece)
            length += len(piece)
            budget.check_size(length)
        return "".join(pieces)


@contextmanager
def _told_in_one_line() -> Iterator[None]:
    """Turn whatever a template raises into the errors that `render` promises."""
    from jinja2 import TemplateError

    from .template_environment import RejectionError

    try:
        yield
    except RejectionError as error:
        raise PromptError(f"the chat template refuses these messages: {error}") from error
    except (TemplateError, *_TEMPLATE_FAILURES) as error:
        reason = str(error) or type(error).__name__
        raise ArtifactError(f"the chat template cannot be rendered: {reason}; a raw prompt needs none") from error


def _read(file: Path) -> dict[str, str]:
    try:
        content = file.read_bytes()[: MAX_BYTES + 1]
        text = content.decode()
    except OSError as error:
        raise ArtifactError(f"cannot read {file}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ArtifactError(f"{file} is not UTF-8 text: {error}") from error
    if len(content) > MAX_BYTES:
        raise ArtifactError(f"{file} has more than {MAX_BYTES} bytes: no chat template has")
    # Read as transformers reads it, with line ends of any kind as line feeds.
    return {"default": text.replace("\r\n", "\n").replace("\r", "\n")}


def _from_config(config: JsonObject) -> dict[str, str]:
    """The config's template: one text, or a list of `{"name", "template"}`."""
    if isinstance(config.get("chat_template"), list):
        listed = config.children("chat_template")
        return {entry.required("name", str): entry.required("template", str) for entry in listed}
    source = config.optional("chat_template", str)
    return {} if source is None else {"default": source}


def _complete(message: Message) -> dict[str, Any]:
    """The message without nulls, with its reasoning under the names that templates read."""
    if not isinstance(message, Mapping):
        raise PromptError(f"a message is {message!r:.60}: expected an object with role and content")
    message = {key: value for key, value in message.items() if value is not None}
    reasoning = next((message[name] for name in REASONING_NAMES if name in message), None)
    if reasoning is None:
        return message
    return {"thinking": reasoning, **message, "reasoning_content": reasoning}


def _plain(value: Any) -> Any:
    """A copy in JSON's own types: whatever else a caller's object can do stays out of the sandbox."""
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    raise PromptError(f"a message holds a {type(value).__name__}: expected only what JSON can hold")
