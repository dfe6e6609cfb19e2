"""Chat templates: render messages to the text of a prompt, as transformers does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from ..artifact.text_file import read_text
from ..artifact.tokenizer_config import JsonObject
from ..errors import ArtifactError, PromptError

if TYPE_CHECKING:
    from ..limited_process import LimitedProcess
    from .template_environment import TemplateRenderer

Message: TypeAlias = Mapping[str, Any]
"""A message `{"role": "user", "content": "..."}`, with further keys of the template, such as `tool_calls`."""

MAX_BYTES = 1 << 20
"""The size limit of a template in bytes; the largest in use have some 30,000."""

REASONING_NAMES = ("reasoning_content", "thinking", "reasoning")
"""The keys by which a message may hold its reasoning, in order of precedence; templates read the first two."""

KNOWN_TEMPLATES = frozenset(
    {
        "8734f116261fd912dd49650d5860ee95cc8ce1e0323bae4ed7a53bb5c6fe7f84",  # MiniMind, 2024-08
        "ca765b60efd33e474d780656574a03865c4bc6a1ad9b67a5d6ed572f3d1a9b1c",  # MiniMind, 2024-11
        "acd9ad90d960b8e94e384b016e0797a1d3d28cb0e8c6c21b805ccd0ec48b82db",  # MiniMind2, 2025-02
        "d98e9c48d59b25d43a76525902414f17470dfade4d6d60085a8862c11d48f0d5",  # MiniMind2, 2025-04
        "4f57494cd38c0e4e50e27f4632fb6907414a68cc48d0bbc48da5449c596c69fa",  # MiniMind2, 2025-10
        "97c6a9ef3f8d35044f435bb7773f1af160a7328ab6e8d2e9d67702941320a711",  # MiniMind-3, 2026-03
        "c4b9f5d29823a42f4aa64951e6c4ed3dbb9c1be49ae4626a97d1b7ae9b84f534",  # MiniMind-3, 2026-06
        "f276edfa835c34f8d26299433c18426a689609b6c5d9c0b9de1d5f1725f7563f",  # MiniMind-3, 2026-06
        "e772b6ad1ea2a9b717ead97c3d9266a75e14489ec55a751b956003420d7b4981",  # the demo of this project
    }
)
"""The SHA-256 of known templates, which are rendered in this process because they end."""

RENDER_SECONDS = 1.0
"""The seconds for compiling and rendering an unknown template; the slowest in use take some hundredths of that."""

RENDER_MEMORY_MB = 512
"""The memory limit of the process that renders an unknown template, in MiB."""


class ChatTemplate:
    """Renders messages to a prompt; imports jinja2 and compiles the template at the first rendering.

    An unknown template is compiled and rendered in a child process with limits of time and memory, which is kept for
    the next rendering.

    Args:
        sources: The jinja2 text of each template by name: `default`, and `tool_use` if tools have their own template.
        special_tokens: Variables of the template, such as `bos_token`.
    """

    def __init__(self, sources: Mapping[str, str], special_tokens: Mapping[str, str] | None = None) -> None:
        self._sources = dict(sources)
        self._special_tokens = dict(special_tokens or {})
        self._renderer: TemplateRenderer | None = None
        self._process: LimitedProcess | None = None

    @classmethod
    def find(
        cls,
        file: Path | None,
        config: JsonObject,
        special_tokens: Mapping[str, str] | None = None,
        named: Sequence[Path] = (),
    ) -> ChatTemplate | None:
        """The chat template of an artifact, None where it has none.

        Args:
            file: Path of `chat_template.jinja`, None where there is none; overrides the config's default template.
            config: The content of `tokenizer_config.json`, whose templates may be one text or a list by name.
            special_tokens: Variables of the template.
            named: Files of `additional_chat_templates`, which override templates of the same name in the config.

        Raises:
            ArtifactError: A file is not text, or the config's `chat_template` is of another type.
        """
        sources = _from_config(config) | {path.stem: read_template(path) for path in named}
        if file:
            sources["default"] = read_template(file)
        if sources and "default" not in sources:
            raise ArtifactError(f"{config.where}: there is no chat template named default, only {', '.join(sources)}")
        return cls(sources, special_tokens) if sources else None

    def reads(self, name: str) -> bool:
        """Whether a variable, such as `tools`, occurs in the text of a template."""
        return any(name in source for source in self._sources.values())

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = False,
        **variables: Any,
    ) -> str:
        """Render messages to the text of a prompt.

        Args:
            messages: The conversation, oldest first; at least one.
            tools: JSON schemas of the functions that the model may call.
            add_generation_prompt: Whether to open the assistant's turn at the end.
            variables: Further variables of the template, such as `enable_thinking` or `documents`.

        Raises:
            PromptError: There is no message, a value is not a JSON value, or the template refuses the messages.
            ArtifactError: The template is broken, or runs or grows without end.
            MissingError: The system cannot start the process that an unknown template is rendered in.
        """
        if not messages:
            raise PromptError("the conversation is empty: expected at least one message")
        context = {
            "documents": None,
            **self._special_tokens,
            **variables,
            "messages": [_complete(message) for message in messages],
            "tools": tools,
            "add_generation_prompt": add_generation_prompt,
        }
        name = "tool_use" if tools is not None and "tool_use" in self._sources else "default"
        try:
            plain = {key: _plain(value) for key, value in context.items()}
        except RecursionError as error:
            raise PromptError("a message holds itself, or is nested too deeply to be JSON") from error
        return self._render_known(name, plain) if self._is_known(name) else self._render_limited(name, plain)

    def _is_known(self, name: str) -> bool:
        import hashlib

        source = self._sources[name].encode(errors="surrogatepass")
        return hashlib.sha256(source).hexdigest() in KNOWN_TEMPLATES

    def _render_known(self, name: str, context: Mapping[str, Any]) -> str:
        if self._renderer is None:
            from .template_environment import TemplateRenderer

            self._renderer = TemplateRenderer(self._sources)
        return self._renderer.render(name, context)

    def _render_limited(self, name: str, context: Mapping[str, Any]) -> str:
        from ..limited_process import LimitedProcess, LimitError

        if self._process is None:
            self._process = LimitedProcess(
                f"{__package__}.template_environment:open_renderer",
                self._sources,
                seconds=RENDER_SECONDS,
                memory_mb=RENDER_MEMORY_MB,
            )
        try:
            text: str = self._process.ask([name, context])
        except LimitError as error:
            raise ArtifactError(f"the chat template {error}: it is not rendered; a raw prompt needs none") from error
        return text


def read_template(file: Path) -> str:
    """The text of a `.jinja` file.

    Raises:
        ArtifactError: The file cannot be read, is too large, or is not UTF-8.
    """
    text = read_text(file, MAX_BYTES)
    # As in transformers, line ends of any kind are read as line feeds.
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _from_config(config: JsonObject) -> dict[str, str]:
    """The templates of the config by name, given as one text or as a list of `{"name", "template"}`."""
    if isinstance(config.get("chat_template"), list):
        listed = config.children("chat_template")
        return {entry.required("name", str): entry.required("template", str) for entry in listed}
    source = config.optional("chat_template", str)
    return {} if source is None else {"default": source}


def _complete(message: Message) -> dict[str, Any]:
    """The message without nulls, with its reasoning under both keys that templates read."""
    if not isinstance(message, Mapping):
        raise PromptError(f"a message is {message!r:.60}: expected an object with role and content")
    message = {key: value for key, value in message.items() if value is not None}
    reasoning = next((message[name] for name in REASONING_NAMES if name in message), None)
    if reasoning is None:
        return message
    return {"thinking": reasoning, **message, "reasoning_content": reasoning}


def _plain(value: Any) -> Any:
    """A copy of a value in JSON's own types, so that no method of a caller's object enters the sandbox."""
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    raise PromptError(f"a message holds a {type(value).__name__}: expected only what JSON can hold")
