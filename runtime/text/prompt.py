"""Prompts: from text, messages or token ids to the token ids that a model runs."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from ..errors import PromptError, UsageError
from .chat_template import ChatTemplate, Message
from .think import opens_thinking
from .tokenizer import Tokenizer


@dataclass(frozen=True)
class Prompt:
    """A prompt that is ready to run.

    Attributes:
        token_ids: Token ids, at least one.
        opens_thinking: Whether the prompt ends inside a think block, so that the model's text begins there.
    """

    token_ids: tuple[int, ...]
    opens_thinking: bool = False


PromptLike: TypeAlias = "str | Sequence[Message] | Sequence[int] | Prompt"
"""A text, messages, token ids, or a `Prompt`."""


class PromptBuilder:
    """Makes prompts for one model.

    Args:
        tokenizer: The tokenizer; None for a model without one, which takes only token ids.
        template: The chat template; None for a model without one, which takes text as it is and no messages.
    """

    def __init__(self, tokenizer: Tokenizer | None, template: ChatTemplate | None = None) -> None:
        self.tokenizer = tokenizer
        self.template = template

    def build(
        self,
        prompt: PromptLike,
        *,
        raw: bool = False,
        system: str | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        thinking: bool | None = None,
    ) -> Prompt:
        """Make a prompt.

        Args:
            prompt: A text, which becomes a user's message if there is a template; messages, which are rendered; or
                token ids or a `Prompt`, which stay as they are.
            raw: Take text as it is, after the token that begins a text if the model uses one; meant for models that are
                only pretrained.
            system: A system message before all others.
            tools: JSON schemas of the functions that the model may call.
            thinking: Whether to ask the model to think first, if its template supports that; None leaves the choice
                to the template.

        Raises:
            PromptError: The prompt is empty, or the model lacks the tokenizer or the template for it.
            UsageError: `system` or `tools` were given for a prompt that the chat template does not render.
        """
        if self._is_chat(prompt, raw):
            return self._render(_messages(prompt, system), tools, thinking)
        if system is not None or tools is not None:
            raise UsageError("a system message and tools need a chat template: they have no place in a raw prompt")
        if isinstance(prompt, str):
            return self._raw(prompt)
        return prompt if isinstance(prompt, Prompt) else _ids(prompt)

    def _is_chat(self, prompt: PromptLike, raw: bool) -> bool:
        """Whether the chat template renders the prompt."""
        if isinstance(prompt, str):
            return self.template is not None and not raw
        return not isinstance(prompt, Prompt) and any(isinstance(item, Mapping) for item in prompt)

    def _raw(self, text: str) -> Prompt:
        token_ids = self._require_tokenizer().encode_raw(text)
        if not token_ids:
            raise PromptError("the prompt is empty, and this model has no token that begins a text: expected some text")
        return Prompt(tuple(token_ids), opens_thinking(text))

    def _render(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] | None, thinking: bool | None
    ) -> Prompt:
        tokenizer = self._require_tokenizer()
        if self.template is None:
            raise PromptError("this model has no chat template: it takes raw text or token ids, no messages")
        # MiniMind2's template, like Qwen3's, reads the first name, MiniMind-3's the second.
        variables: dict[str, Any] = {} if thinking is None else {"enable_thinking": thinking, "open_thinking": thinking}
        text = self.template.render(messages, tools=tools, add_generation_prompt=True, **variables)
        token_ids = tokenizer.encode(text, add_special_tokens=False)
        if not token_ids:
            raise PromptError("the chat template makes an empty prompt of these messages")
        return Prompt(tuple(token_ids), opens_thinking(text))

    def _require_tokenizer(self) -> Tokenizer:
        if self.tokenizer is None:
            raise PromptError("this model came without a tokenizer: give token ids (--ids), or export it with one")
        return self.tokenizer


def _messages(prompt: PromptLike, system: str | None) -> list[Message]:
    first = [] if system is None else [{"role": "system", "content": system}]
    if isinstance(prompt, str):
        return [*first, {"role": "user", "content": prompt}]
    return [*first, *cast("Sequence[Message]", prompt)]


def _ids(prompt: Sequence[Any]) -> Prompt:
    if len(prompt) == 0:
        raise PromptError("the prompt is empty: expected text, messages or token ids")
    try:
        return Prompt(tuple(map(operator.index, prompt)))
    except TypeError as error:
        raise PromptError("expected a prompt of text, of messages or of whole numbers (token ids)") from error
