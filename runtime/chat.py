"""A conversation: keeps the history, fits it in the context, and runs only its new part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

from .completion import Completion, CompletionResult
from .options import GenerationOptions
from .sampling import SamplingParams
from .session.session import Session
from .text.chat_template import Message
from .text.prompt import Prompt, PromptBuilder
from .text.think import CLOSE_TAG, OPEN_TAG

ANSWER_SHARE = 4
"""The divisor of the context that bounds the room kept free for an answer: at most a fourth of it."""


class Completer(Protocol):
    """The part of an `Engine` that a conversation uses."""

    session: Session
    prompts: PromptBuilder
    max_new_tokens: int

    def stream(
        self,
        prompt: Prompt,
        options: GenerationOptions | None = None,
        *,
        params: SamplingParams | None = None,
        reuse_cache: bool = False,
        on_end: Callable[[CompletionResult], None] | None = None,
    ) -> Completion:
        """Begin a completion."""
        ...


class Chat:
    """A conversation with a model; made by `Engine.chat`.

    Each turn renders the whole history, as templates require it, but runs only the tokens after the part that the
    session holds already: past answers run again where the template writes them in another way than the model did.

    Args:
        engine: The model.
        options: Options of each answer; their system message is never dropped.
        params: Sampling parameters, in place of those in the options.
        on_drop: Called with the oldest messages when they are dropped because the context is full.

    Attributes:
        messages: The history, oldest first, without the system message; may be filled or cleared between two turns.
    """

    def __init__(
        self,
        engine: Completer,
        options: GenerationOptions,
        *,
        params: SamplingParams | None = None,
        on_drop: Callable[[Sequence[Message]], None] | None = None,
    ) -> None:
        self.messages: list[Message] = []
        self._build = partial(
            engine.prompts.build, system=options.system, tools=options.tools, thinking=options.thinking
        )
        # What is said of a prompt has its place in `_build`: the one that is streamed is ready.
        answering = replace(options, system=None, tools=None, thinking=None)
        self._stream = partial(engine.stream, options=answering, params=params, reuse_cache=True)
        limit = engine.session.max_length
        wanted = engine.max_new_tokens if options.max_new_tokens is None else options.max_new_tokens
        self._room = limit - min(wanted, limit // ANSWER_SHARE)
        self._on_drop = on_drop
        self._answer: Completion | None = None

    def send(self, text: str, role: str = "user") -> Completion:
        """Send a message; iterate over the completion for the answer.

        The turn enters the history when the answer ends, complete or cut off, unless the answer has no text.

        Args:
            text: The message.
            role: Role of its sender: `user`, or `tool` for the result of a function that the model called.

        Raises:
            ContextLengthError: The message alone, with the system message, is longer than the context.
            PromptError: The model has no tokenizer or no chat template.
        """
        if self._answer is not None:
            self._answer.close()
        question = {"role": role, "content": text}
        dropped, prompt = self._fit([*self.messages, question])

        def remember(result: CompletionResult) -> None:
            if result.text or result.finish_reason != "cancelled":
                answer = {"role": "assistant", "content": _said(prompt, result.text)}
                self.messages += [question, answer]

        self._answer = self._stream(prompt, on_end=remember)
        if dropped:
            del self.messages[: len(dropped)]
            if self._on_drop is not None:
                self._on_drop(dropped)
        return self._answer

    def _fit(self, messages: list[Message]) -> tuple[list[Message], Prompt]:
        """Drop the oldest turns until there is room for an answer; the last message always stays."""
        for start in _turns(messages):
            prompt = self._build(messages[start:])
            if len(prompt.token_ids) <= self._room:
                break
        return messages[:start], prompt


def _turns(messages: Sequence[Message]) -> Iterator[int]:
    """The indices at which the history may begin: its first message, and every later one of the user."""
    yield 0
    yield from (index for index, message in enumerate(messages) if index and message.get("role") == "user")


def _said(prompt: Prompt, text: str) -> str:
    """The answer as the history keeps it, with the think block that the prompt opened, closed if it is not yet."""
    if not prompt.opens_thinking:
        return text
    return f"{OPEN_TAG}\n{text}" if CLOSE_TAG in text else f"{OPEN_TAG}\n{text}\n{CLOSE_TAG}\n\n"
