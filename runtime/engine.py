"""The engine: a loaded model that turns prompts into text. This is what a program works with."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypedDict

from .artifact.folder import Artifact
from .artifact.generation_config import GenerationConfig
from .chat import Chat, ChatOptions
from .completion import Completion, CompletionResult
from .decode import generate
from .errors import UsageError
from .sampling import SamplingParams
from .session.session import Session
from .speculation import changes_no_token
from .text.chat_template import ChatTemplate
from .text.prompt import PromptBuilder, PromptLike
from .text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from typing_extensions import Unpack

DEFAULT_MAX_NEW_TOKENS = 512


class StreamOptions(TypedDict, total=False):
    """The options of `Engine.stream`, for the methods that pass them on."""

    params: SamplingParams | None
    max_new_tokens: int | None
    stop: Sequence[str]
    ignore_eos: bool
    raw: bool
    system: str | None
    tools: Sequence[Mapping[str, Any]] | None
    thinking: bool | None


class Engine:
    """A model with what belongs to it: session, tokenizer, chat template, defaults; make one with `Engine.load`.

    It runs one completion at a time: to begin another one ends the one before.

    Args:
        session: Runs the model.
        tokenizer: None for a model without one: it takes and gives token ids.
        template: The chat template, None where there is none.
        config: The model's defaults.
        load_s: Seconds that loading took, for the timings.
        speculate: Whether to run tokens ahead of themselves where the text repeats itself.

    Attributes:
        default_params: How the model's author would sample.
        max_new_tokens: Length of an answer in tokens, unless another one is asked for.
        stop_token_ids: Tokens that end a text.
        stop_strings: Texts that end an answer, whatever else does; none without a tokenizer.
        speculates: As asked for.

    Raises:
        ArtifactError: A default is out of its range.
        UsageError: There is no speculation with this session.
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
            raise UsageError("this graph gives the logits of one token at a time: there is no speculation with it")
        config = config or GenerationConfig()
        eos = None if tokenizer is None else tokenizer.eos_token_id
        self.session = session
        self.tokenizer = tokenizer
        self.prompts = PromptBuilder(tokenizer, template)
        self.max_new_tokens = config.max_new_tokens or DEFAULT_MAX_NEW_TOKENS
        self.stop_token_ids = config.eos_token_ids or (() if eos is None else (eos,))
        self.stop_strings = () if tokenizer is None else config.stop_strings
        self.default_params = SamplingParams.of_artifact(config, self.stop_token_ids)
        self.load_s = load_s
        self.speculates = speculate
        self._active: Completion | None = None
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
            device: `auto`, `cpu` or `cuda`.
            threads: That one operator may use; None for the physical cores.
            max_length: Most tokens of prompt and answer together; None for what the model can do.
            precision: `fp32`, `fp16`, `bf16`, `int8` or `int4` chooses among a folder's graphs; None: the default.
            speculate: Whether to run tokens ahead of themselves where the text repeats itself; None: on the CPU, for
                graphs where that changes no token (see `changes_no_token`).

        Raises:
            ArtifactError: A file of the artifact is missing, broken or of another kind.
            MissingError: The environment lacks what the device takes.
            UsageError: An argument is out of range.
        """
        from .load import load_session

        started = perf_counter()
        artifact = Artifact.open(path, precision)
        tokenizer = template = None
        if artifact.tokenizer is not None:
            tokenizer = Tokenizer.load(artifact.tokenizer, artifact.tokenizer_config)
            texts = tokenizer.special_tokens
            template = ChatTemplate.find(
                artifact.chat_template, artifact.tokenizer_config, texts, artifact.named_templates
            )
        limit = artifact.max_length if max_length is None else max_length
        session = load_session(artifact.graph, device=device, threads=threads, max_length=limit)
        config = artifact.generation
        if not config.eos_token_ids and (tokenizer is None or tokenizer.eos_token_id is None):
            config = replace(config, eos_token_ids=session.facts.eos_token_ids)
        if speculate is None:
            facts = session.facts
            is_exact = changes_no_token(facts.target, facts.precision, int8_cache=facts.has_int8_cache)
            speculate = session.gives_all_logits and session.device == "cpu" and is_exact
        return cls(session, tokenizer, template, config, load_s=perf_counter() - started, speculate=speculate)

    def sampling_params(
        self,
        *,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        repetition_penalty: float | None = None,
        seed: int | None = None,
        greedy: bool | None = None,
    ) -> SamplingParams:
        """The model's own parameters with some of them replaced; None leaves one as it is.

        A model that is greedy by default samples as soon as a temperature or a filter is given.

        Raises:
            UsageError: A value is out of its range.
        """
        filters = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p}
        given: dict[str, Any] = {name: value for name, value in filters.items() if value is not None}
        if greedy is None:
            greedy = self.default_params.greedy and not given
        others = {"repetition_penalty": repetition_penalty, "seed": seed}
        given.update((name, value) for name, value in others.items() if value is not None)
        return replace(self.default_params, greedy=greedy, **given)

    def stream(
        self,
        prompt: PromptLike,
        *,
        params: SamplingParams | None = None,
        max_new_tokens: int | None = None,
        stop: Sequence[str] = (),
        ignore_eos: bool = False,
        raw: bool = False,
        system: str | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        thinking: bool | None = None,
        reuse_cache: bool = False,
        on_end: Callable[[CompletionResult], None] | None = None,
    ) -> Completion:
        """Begin a completion: iterate over it for the text, and look at its `result` then.

        Nothing is run before the first iteration, but everything is checked here.

        Args:
            prompt: Text, messages, token ids, or a prompt that is ready.
            params: How tokens are chosen; None for the model's own way.
            max_new_tokens: Most tokens, at least 1; None for the model's own number. A full context ends it as well.
            stop: Strings that end the text; not part of it.
            ignore_eos: Go on behind the tokens that end a text.
            raw: Take text as it is, without the chat template.
            system: A system message before all others.
            tools: JSON schemas of the functions that the model may call.
            thinking: Whether to ask the model to think first; None leaves the choice to its template.
            reuse_cache: Run only the part of the prompt that the session doesn't hold from the completion before. The
                logits are the same but for rounding, which is why it is not the default.
            on_end: Called once with the result when the completion has ended, whatever ended it, if it ever began.

        Raises:
            PromptError: The prompt is empty, has unknown tokens, or the model lacks the tokenizer or template for it.
            ContextLengthError: The prompt is longer than the context.
            ArtifactError: The chat template is broken.
            UsageError: An option is out of its range or has no place here.
        """
        asked_at = perf_counter()
        if stop and self.tokenizer is None:
            raise UsageError("stop strings need a tokenizer, which this model came without")
        ready = self.prompts.build(prompt, raw=raw, system=system, tools=tools, thinking=thinking)
        self._end_active()
        generation = generate(
            self.session,
            [ready.token_ids],
            params or self.default_params,
            max_new_tokens=self.max_new_tokens if max_new_tokens is None else max_new_tokens,
            stop_token_ids=() if ignore_eos else self.stop_token_ids,
            cached_length=_common_prefix(self._held, ready.token_ids) if reuse_cache else 0,
            speculate=self.speculates,
        )
        self._active = Completion(
            generation,
            ready,
            self.tokenizer,
            (*self.stop_strings, *stop),
            load_s=self.load_s,
            asked_at=asked_at,
            on_end=on_end,
        )
        return self._active

    def generate(self, prompt: PromptLike, **options: Unpack[StreamOptions]) -> CompletionResult:
        """Complete a prompt and return all of it; takes the options of `stream`."""
        return self.stream(prompt, **options).run()

    def chat(self, **options: Unpack[ChatOptions]) -> Chat:
        """Begin a conversation; takes the options of `Chat`."""
        return Chat(self, **options)

    def _end_active(self) -> None:
        """End the completion that is under way, and note which tokens the session holds."""
        if self._active is not None:
            self._active.close()
            if self._active.has_begun:
                tokens = (*self._active.prompt.token_ids, *self._active.token_ids)
                self._held = tokens[: self.session.length]
            self._active = None


def _common_prefix(held: Sequence[int], wanted: Sequence[int]) -> int:
    """How many tokens of a prompt need not be run again: all but one at most, whose logits are needed."""
    limit = min(len(held), len(wanted) - 1)
    return next((index for index in range(limit) if held[index] != wanted[index]), limit)
