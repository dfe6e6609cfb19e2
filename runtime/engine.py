"""The engine: a loaded model that turns prompts into text, and the main interface for programs."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING

from .artifact.folder import Artifact
from .artifact.generation_config import GenerationConfig
from .chat import Chat
from .completion import Completion, CompletionResult
from .decode import generate
from .errors import UsageError
from .model_text import ModelText
from .options import GenerationFields, GenerationOptions
from .sampling import SamplingParams
from .session.session import Session
from .speculation import changes_no_token
from .text.chat_template import ChatTemplate, Message
from .text.prompt import PromptLike
from .text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Engine:
    """A loaded model with its session, tokenizer, chat template and defaults; made by `Engine.load`.

    It runs one completion at a time, for one caller: beginning another one ends the one before, and a second thread
    that comes while the first one waits for text gets an `EngineBusyError`. Threads that take turns may share it.

    Args:
        session: The session that runs the model.
        tokenizer: The tokenizer; None for a model without one, which takes and gives token ids.
        template: The chat template, None where there is none.
        config: The model's defaults for generation.
        load_s: Seconds that loading took, for the timings.
        speculate: Whether to use prompt-lookup speculative decoding.

    Attributes:
        default_params: Sampling parameters of the model's own configuration.
        max_new_tokens: Default for the most tokens of an answer.
        stop_token_ids: Token ids that end a text.
        stop_strings: Strings that end every answer; empty without a tokenizer.
        speculates: Whether completions use prompt-lookup speculative decoding.

    Raises:
        ArtifactError: A default is out of its range.
        UsageError: Speculation is not possible with this session.
    """

    def __init__(
        self,
        session: Session,
        tokenizer: Tokenizer | None = None,
        template: ChatTemplate | None = None,
        config: GenerationConfig | None = None,
        load_s: float = 0.0,
        *,
        speculate: bool = False,
    ) -> None:
        if speculate and not session.gives_all_logits:
            raise UsageError("this graph gives the logits of one token at a time: it cannot run speculative decoding")
        text = ModelText(tokenizer, template, config or GenerationConfig())
        self.session = session
        self.tokenizer = tokenizer
        self.prompts = text.prompts
        self.max_new_tokens = text.max_new_tokens
        self.stop_token_ids = text.stop_token_ids
        self.stop_strings = text.stop_strings
        self.default_params = text.sampling_params()
        self.load_s = load_s
        self.speculates = speculate
        self._active: Completion | None = None
        self._begins = threading.Lock()
        self._held: Sequence[int] = ()

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        device: str = "auto",
        threads: int | None = None,
        max_length: int | None = None,
        precision: str | None = None,
        speculate: bool | None = None,
    ) -> Engine:
        """Load an artifact.

        Args:
            path: An artifact folder, or an `.onnx` graph or a `.plan` inside or outside of one.
            device: `auto`, `cpu`, `cuda`, `tensorrt` or `rtx`.
            threads: Threads for one operator; None for the physical cores.
            max_length: Most tokens of prompt and answer together; None for the model's own limit.
            precision: Precision of the graph to run, `fp32`, `fp16`, `bf16`, `int8` or `int4`; None for the artifact's
                default graph.
            speculate: Whether to use prompt-lookup speculative decoding; None uses it on the CPU, for graphs where it
                changes no token (`changes_no_token`).

        Raises:
            ArtifactError: A file of the artifact is missing, broken or of another kind.
            MissingError: The environment lacks a package, driver or device.
            UsageError: An argument is out of range.
        """
        from .load import load_session

        started = perf_counter()
        artifact = Artifact.open(path, precision)
        text = ModelText.load(artifact)
        limit = artifact.max_length if max_length is None else max_length
        session = load_session(artifact.graph, device=device, threads=threads, max_length=limit)
        text = text.completed(session.facts.eos_token_ids)
        if speculate is None:
            facts = session.facts
            is_exact = changes_no_token(facts.target, facts.precision, int8_cache=facts.has_int8_cache)
            speculate = session.gives_all_logits and session.device == "cpu" and is_exact
        load_s = perf_counter() - started
        return cls(session, text.tokenizer, text.template, text.config, load_s=load_s, speculate=speculate)

    @property
    def operators(self) -> str:
        """Whose operators run the model: `native` where those of minimind-edge-native do, else `stock`."""
        return self.session.facts.operators

    def sampling_params(self, **fields: Unpack[GenerationFields]) -> SamplingParams:
        """The model's own sampling parameters, with the given fields of `GenerationOptions` replaced.

        Raises:
            UsageError: A value is out of its range.
        """
        return GenerationOptions(**fields).sampling_params(self.default_params)

    def stream(
        self,
        prompt: PromptLike,
        options: GenerationOptions | None = None,
        *,
        params: SamplingParams | None = None,
        reuse_cache: bool = False,
        on_end: Callable[[CompletionResult], None] | None = None,
        **fields: Unpack[GenerationFields],
    ) -> Completion:
        """Begin a completion: iterate over it for the text, then read its `result`.

        Everything is checked here, but nothing runs before the first iteration.

        Args:
            prompt: Text, messages, token ids, or a `Prompt`.
            options: Options of the completion; None for the model's own defaults.
            params: Sampling parameters, in place of those in the options.
            reuse_cache: Run only the part of the prompt that the session does not hold from the completion before. The
                logits are the same except for rounding, which is why it is not the default.
            on_end: Called once with the result when a completion that has begun ends, also by an error.
            fields: Fields of `GenerationOptions`, in place of those of `options`.

        Raises:
            PromptError: The prompt is empty, has unknown tokens, or the model lacks the tokenizer or template for it.
            ContextLengthError: The prompt is longer than the context.
            EngineBusyError: Another thread waits for text of this engine.
            ArtifactError: The chat template is broken.
            UsageError: An option is out of its range or does not fit the prompt.
        """
        asked_at = perf_counter()
        wanted = replace(options or GenerationOptions(), **fields)
        if wanted.stop and self.tokenizer is None:
            raise UsageError("stop strings need a tokenizer, which this model came without")
        ready = self.prompts.build(
            prompt, raw=wanted.raw, system=wanted.system, tools=wanted.tools, thinking=wanted.thinking
        )
        with self._begins:
            self._end_active()
            generation = generate(
                self.session,
                [ready.token_ids],
                params or wanted.sampling_params(self.default_params),
                max_new_tokens=self.max_new_tokens if wanted.max_new_tokens is None else wanted.max_new_tokens,
                stop_token_ids=() if wanted.ignore_eos else self.stop_token_ids,
                cached_length=_common_prefix(self._held, ready.token_ids) if reuse_cache else 0,
                speculate=self.speculates,
            )
            self._active = Completion(
                generation,
                ready,
                self.tokenizer,
                (*self.stop_strings, *wanted.stop),
                load_s=self.load_s,
                asked_at=asked_at,
                on_end=on_end,
            )
            return self._active

    def generate(
        self,
        prompt: PromptLike,
        options: GenerationOptions | None = None,
        *,
        params: SamplingParams | None = None,
        **fields: Unpack[GenerationFields],
    ) -> CompletionResult:
        """Complete a prompt and return the result; the arguments are those of `stream`."""
        return self.stream(prompt, options, params=params, **fields).run()

    def chat(
        self,
        options: GenerationOptions | None = None,
        *,
        params: SamplingParams | None = None,
        on_drop: Callable[[Sequence[Message]], None] | None = None,
        **fields: Unpack[GenerationFields],
    ) -> Chat:
        """Begin a conversation.

        Args:
            options: Options of each answer; None for the model's own defaults.
            params: Sampling parameters, in place of those in the options.
            on_drop: Called with the oldest messages when they are dropped because the context is full.
            fields: Fields of `GenerationOptions`, in place of those of `options`.
        """
        wanted = replace(options or GenerationOptions(), **fields)
        return Chat(self, wanted, params=params, on_drop=on_drop)

    def _end_active(self) -> None:
        """End the running completion, and note which tokens the session holds."""
        if self._active is not None:
            self._active.close()
            if self._active.has_begun:
                tokens = (*self._active.prompt.token_ids, *self._active.token_ids)
                self._held = tokens[: self.session.length]
            self._active = None


def _common_prefix(held: Sequence[int], wanted: Sequence[int]) -> int:
    """The number of leading tokens that need not run again: at most all except the last, whose logits are needed."""
    limit = min(len(held), len(wanted) - 1)
    return next((index for index in range(limit) if held[index] != wanted[index]), limit)
