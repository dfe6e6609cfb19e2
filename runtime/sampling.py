"""Sampling token ids from next-token logits, with the results of Hugging Face's `generate()`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .errors import ArtifactError, UsageError
from .logits_processors import (
    BadWords,
    ForcedEos,
    LogitBias,
    LogitsProcessor,
    MinNewTokens,
    NoRepeatNGram,
    OccurrencePenalty,
    RepetitionPenalty,
    SuppressTokens,
)
from .session.model import Logits, TokenIds
from .token_filters import Filter, Floats, RowFilters, draw, kept_tokens

if TYPE_CHECKING:
    from .artifact.generation_config import GenerationConfig

_NOT_IN_ARTIFACTS = ("greedy", "seed", "eos_token_ids", "logit_bias")


@dataclass(frozen=True)
class SamplingParams:
    """The sampling parameters; the defaults sample from the model's own distribution.

    Args:
        temperature: Divisor of the logits, at least 0; 0 means greedy.
        top_k: Number of likeliest tokens to keep, at least 0; 0 means all.
        top_p: Probability that the kept likeliest tokens reach together, 0 to 1.
        min_p: Least probability of a kept token as a fraction of the likeliest one's, 0 to 1.
        repetition_penalty: Above 1, tokens of the prompt and of the answer so far become less likely; 0.01 to 100.
        seed: Seed of the random generator, at least 0; None draws a fresh one.
        greedy: Always take the likeliest token; temperature, top_k, top_p and min_p have no effect then.
        presence_penalty: Number subtracted from the logits of tokens that occur in the answer so far; -100 to 100.
        frequency_penalty: Number subtracted from a token's logit for each occurrence in the answer; -100 to 100.
        no_repeat_ngram_size: Length in tokens of n-grams that must not occur twice, 0 for no limit.
        min_new_tokens: Number of tokens of an answer before one of `eos_token_ids` may be chosen; at least 0.
        eos_token_ids: Token ids that end a text, for `min_new_tokens` and `bad_words_ids`.
        forced_eos_token_ids: Token ids, one of which ends an answer that reaches its greatest length.
        suppress_tokens: Token ids that are never chosen.
        bad_words_ids: Sequences of token ids that are never completed.
        logit_bias: Pairs of a token id and a number from -100 to 100 that is added to its logit before all penalties.

    Raises:
        UsageError: A value is out of its range.

    Source:
        top_p: Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration", section 3.1; min_p: Nguyen et al.
        2024, "Turning Up the Heat", equation 2; repetition_penalty: Keskar et al. 2019, "CTRL", section 4.1, with the
        sign-aware form of Hugging Face.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    greedy: bool = False
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    no_repeat_ngram_size: int = 0
    min_new_tokens: int = 0
    eos_token_ids: tuple[int, ...] = ()
    forced_eos_token_ids: tuple[int, ...] = ()
    suppress_tokens: tuple[int, ...] = ()
    bad_words_ids: tuple[tuple[int, ...], ...] = ()
    logit_bias: tuple[tuple[int, float], ...] = ()

    def __post_init__(self) -> None:
        _require_number("temperature", self.temperature, "a number from 0 up", 0.0, math.inf)
        _require_integer("top_k", self.top_k)
        _require_number("top_p", self.top_p, "a number from 0 to 1", 0.0, 1.0)
        _require_number("min_p", self.min_p, "a number from 0 to 1", 0.0, 1.0)
        _require_number("repetition_penalty", self.repetition_penalty, "a number from 0.01 to 100", 0.01, 100.0)
        if self.seed is not None:
            _require_integer("seed", self.seed)
        if not isinstance(self.greedy, bool):
            raise UsageError(f"greedy is {self.greedy!r}: it must be true or false")
        for name in ("presence_penalty", "frequency_penalty"):
            _require_number(name, getattr(self, name), "a number from -100 to 100", -100.0, 100.0)
        for name in ("no_repeat_ngram_size", "min_new_tokens"):
            _require_integer(name, getattr(self, name))
        for token in (*self.eos_token_ids, *self.forced_eos_token_ids, *self.suppress_tokens):
            _require_integer("a token id", token)
        for token in (token for word in self.bad_words_ids for token in word):
            _require_integer("a token id of bad_words_ids", token)
        for token, bias in self.logit_bias:
            _require_integer("a token id of logit_bias", token)
            _require_number(f"the logit_bias of token {token}", bias, "a number from -100 to 100", -100.0, 100.0)
        if len(dict(self.logit_bias)) < len(self.logit_bias):
            raise UsageError("logit_bias names a token id twice: give each one bias")

    @classmethod
    def of_artifact(cls, config: GenerationConfig, eos_token_ids: Sequence[int]) -> SamplingParams:
        """The sampling parameters of an artifact's own configuration.

        Args:
            config: The artifact's `generation_config.json`.
            eos_token_ids: Token ids that end a text, from all of the artifact's files.

        Raises:
            ArtifactError: A value is out of its range.
        """
        names = (field.name for field in fields(cls) if field.name not in _NOT_IN_ARTIFACTS)
        given = {name: value for name in names if (value := getattr(config, name)) is not None}
        needs_eos = config.min_new_tokens or config.bad_words_ids
        try:
            return cls(
                greedy=config.do_sample is False, eos_token_ids=tuple(eos_token_ids) if needs_eos else (), **given
            )
        except UsageError as error:
            raise ArtifactError(f"generation_config.json: {error}") from error

    def processors(self, max_new_tokens: int | None) -> tuple[LogitsProcessor, ...]:
        """The logits processors, in the order in which transformers applies them; biases come first there too.

        Args:
            max_new_tokens: Most tokens of the answer, None for no limit.
        """
        rules: list[LogitsProcessor] = []
        if self.logit_bias:
            rules.append(LogitBias(self.logit_bias))
        if self.repetition_penalty != 1.0:
            rules.append(RepetitionPenalty(self.repetition_penalty))
        if self.presence_penalty or self.frequency_penalty:
            rules.append(OccurrencePenalty(self.presence_penalty, self.frequency_penalty))
        if self.no_repeat_ngram_size:
            rules.append(NoRepeatNGram(self.no_repeat_ngram_size))
        if self.bad_words_ids:
            rules.append(BadWords(self.bad_words_ids, self.eos_token_ids))
        if self.min_new_tokens and self.eos_token_ids:
            rules.append(MinNewTokens(self.min_new_tokens, self.eos_token_ids))
        if self.forced_eos_token_ids and max_new_tokens is not None:
            rules.append(ForcedEos(self.forced_eos_token_ids, max_new_tokens))
        if self.suppress_tokens:
            rules.append(SuppressTokens(self.suppress_tokens))
        return tuple(rules)

    def check_vocabulary(self, vocab_size: int) -> None:
        """Check that a model has the tokens that are given a bias.

        Raises:
            UsageError: A token id is not in the model's vocabulary.
        """
        unknown = [token for token, _ in self.logit_bias if token >= vocab_size]
        if unknown:
            raise UsageError(f"logit_bias names token id {unknown[0]}: this model's ids are 0 to {vocab_size - 1}")

    @property
    def filter(self) -> Filter:
        """The parameters that filter a row's tokens, for `RowFilters`."""
        return Filter.of(self.temperature, self.top_k, self.top_p, self.min_p)

    @property
    def is_greedy(self) -> bool:
        """Whether decoding is greedy, so that no random number is drawn."""
        return self.greedy or self.temperature == 0


class TokenHistory:
    """The tokens of one row so far, for the repetition penalty and the logits processors.

    Attributes:
        tokens: Token ids of prompt and answer, in order.

    Args:
        vocab_size: Number of token ids, which are 0 to `vocab_size - 1`.
        token_ids: Token ids of the row's prompt without padding, `[S]` integers.
    """

    def __init__(self, vocab_size: int, token_ids: Sequence[int] | TokenIds) -> None:
        distinct = np.unique(np.asarray(token_ids, dtype=np.int64))
        self._seen = np.zeros(vocab_size, dtype=np.bool_)
        self._seen[distinct] = True
        self._ids = np.empty(vocab_size, dtype=np.int64)
        self._ids[: distinct.size] = distinct
        self._count = distinct.size
        self.tokens: list[int] = np.asarray(token_ids, dtype=np.int64).tolist()
        self._prompt_length = len(self.tokens)
        self._places: dict[int, int] = {}  # of the answer's tokens in the next two arrays
        self._answer_ids = np.empty(16, dtype=np.int64)
        self._answer_counts = np.zeros(16, dtype=np.int64)
        self._counted = self._prompt_length

    @property
    def answer_length(self) -> int:
        """The number of tokens of the answer, which are the last of `tokens`."""
        return len(self.tokens) - self._prompt_length

    @property
    def ids(self) -> TokenIds:
        """The distinct token ids, `[N]` int64, in no particular order."""
        return self._ids[: self._count]

    def answer_counts(self) -> tuple[TokenIds, NDArray[np.int64]]:
        """The distinct token ids of the answer and how often each occurs, `[N]` int64, in no particular order."""
        for token in self.tokens[self._counted :]:
            place = self._places.setdefault(token, len(self._places))
            if place == len(self._answer_ids):
                self._answer_ids = np.concatenate([self._answer_ids, np.empty_like(self._answer_ids)])
                self._answer_counts = np.concatenate([self._answer_counts, np.zeros_like(self._answer_counts)])
            self._answer_ids[place] = token
            self._answer_counts[place] += 1
        self._counted = len(self.tokens)
        return self._answer_ids[: len(self._places)], self._answer_counts[: len(self._places)]

    def add(self, token_id: int) -> None:
        """Append a token of the answer."""
        self.tokens.append(token_id)
        if not self._seen[token_id]:
            self._seen[token_id] = True
            self._ids[self._count] = token_id
            self._count += 1


class Sampler:
    """Chooses a token for every row; owns the random generator, so one sampler belongs to one generation.

    The order is that of Hugging Face's `generate()`: biases, repetition penalty, the other logits processors,
    temperature, top-k, top-p, min-p. A step draws one random number for each row, first row first, so that a seed gives
    the same tokens again for the same batch.

    Args:
        params: Sampling parameters.
        max_new_tokens: Most tokens of an answer, for `forced_eos_token_ids`; None for no limit.
    """

    def __init__(self, params: SamplingParams, max_new_tokens: int | None = None) -> None:
        self._processors = params.processors(max_new_tokens)
        # Greedy decoding starts faster without numpy's generators.
        self._random = None if params.is_greedy else np.random.default_rng(params.seed)
        self._filters = RowFilters.of([params.filter])

    @property
    def needs_history(self) -> bool:
        """Whether the parameters depend on the rows' histories."""
        return bool(self._processors)

    def __call__(self, logits: Logits, histories: Sequence[TokenHistory] = ()) -> TokenIds:
        """Choose the next token of every row.

        Args:
            logits: Next-token logits, `[B, V]` float32; not changed.
            histories: The history of each row; may be left out where `needs_history` is false.

        Returns:
            Token ids, `[B]` int64.

        Raises:
            ArtifactError: A row has a NaN or no finite logit.
        """
        if self.needs_history:
            logits = self._processed(logits, histories)
        if self._random is None:
            return self._argmax(logits)
        # Finished rows draw too, so that a row's tokens do not depend on when another one ended.
        return draw(logits, _largest(logits), self._filters, self._random.random(len(logits)))

    def distribution(
        self, logits: NDArray[np.float32], history: TokenHistory | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The distribution that the next token of one row is drawn from.

        Args:
            logits: Next-token logits, `[V]` float32.
            history: The row's history; needed where `needs_history` is true.

        Returns:
            The tokens that all filters keep, `[N]` int64 ascending, and their probabilities, `[N]` float32.

        Raises:
            ArtifactError: A logit is NaN, or none is finite.
        """
        row = logits[None] if history is None else self._processed(logits[None], [history])
        ids, weights = kept_tokens(row, _largest(row), self._filters)
        return ids, weights / weights.sum()

    def _processed(self, logits: Logits, histories: Sequence[TokenHistory]) -> Logits:
        """A copy of the logits after the logits processors."""
        scores: Logits = logits.copy()
        with np.errstate(over="ignore"):
            for row, history in zip(scores, histories, strict=True):
                for process in self._processors:
                    process(row, history)
        return scores

    @staticmethod
    def _argmax(logits: Logits) -> TokenIds:
        tokens: TokenIds = logits.argmax(axis=-1).astype(np.int64, copy=False)
        for row, token in enumerate(tokens.tolist()):
            # argmax gives the position of a NaN where there is one, so checking the winner finds it
            if not -math.inf < logits.item(row, token) < math.inf:
                raise broken_logits()
        return tokens


def _largest(logits: Logits) -> Floats:
    """The largest logit of each row, `[B, 1]`, which is a number."""
    largest: Floats = logits.max(axis=1, keepdims=True)
    if not np.isfinite(largest).all():
        raise broken_logits()
    return largest


def broken_logits() -> ArtifactError:
    """The error of a row without a distribution."""
    return ArtifactError(
        "the model's logits are not finite numbers (NaN or infinite): the weights are broken or overflow their "
        "precision; try the artifact in fp32, or verify it"
    )


def _require_number(name: str, value: object, legal: str, least: float, most: float) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not least <= value <= most or value == math.inf:  # type: ignore[operator]
        raise UsageError(f"{name} is {value!r}: it must be {legal}")


def _require_integer(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise UsageError(f"{name} is {value!r}: it must be a whole number from 0 up")
