"""The decode loop: prefill, then sample and decode token by token. It handles token ids only, no text."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from .errors import ContextLengthError, PromptError, UsageError
from .sampling import Sampler, SamplingParams, TokenHistory
from .session.model import Logits, TokenIds
from .session.session import Session
from .speculation import Speculation

FinishReason: TypeAlias = Literal["stop", "length"]
"""The reason why a row ended: a stop token, or the limit of tokens or of the cache."""


class Step(NamedTuple):
    """The result of one step of the decode loop.

    Attributes:
        token_ids: Token id of each row, a stop token included; None for a row that had ended before.
        finish_reasons: Finish reason of each row, from the step on that ended it; None before.
    """

    token_ids: tuple[int | None, ...]
    finish_reasons: tuple[FinishReason | None, ...]


@dataclass
class DecodeTimings:
    """The wall-clock seconds of one generation, without the time that the consumer takes between two steps.

    Attributes:
        prefill_s: Seconds to run the prompt.
        decode_s: Seconds after the first token.
        time_to_first_token_s: Seconds from the first call of `next` to the first token.
        decode_steps: Number of tokens of a row after the first one.
        drafted: Number of tokens that speculative decoding drafted.
        accepted: Number of drafted tokens that were accepted, each of which saved a run of the model.
    """

    prefill_s: float = 0.0
    decode_s: float = 0.0
    time_to_first_token_s: float = 0.0
    decode_steps: int = 0
    drafted: int = 0
    accepted: int = 0


class Generation(Iterator[Step]):
    """An iterator over the steps of one generation; made by `generate`.

    However it ends (the last step, `close`, an error, Ctrl-C), the session then holds a prefix of the prompt and the
    yielded tokens, of the length `session.length`.

    Attributes:
        timings: Timings of the generation, updated at each step.
    """

    def __init__(
        self,
        session: Session,
        prompts: Sequence[TokenIds],
        params: SamplingParams,
        *,
        max_new_tokens: int,
        stop_token_ids: Collection[int],
        cached_length: int,
        speculate: bool,
    ) -> None:
        self.timings = DecodeTimings()
        self._session = session
        self._prompts = prompts
        self._prompt_length = max(map(len, prompts))
        self._sampler = Sampler(params, max_new_tokens)
        self._max_new_tokens = max_new_tokens
        self._stop_token_ids = frozenset(stop_token_ids)
        self._cached_length = cached_length
        self._speculates = speculate
        self._steps = self._run()

    def __next__(self) -> Step:
        """Take one step."""
        return next(self._steps)

    def close(self) -> None:
        """End the generation; may be called at any time, and more than once."""
        self._steps.close()

    def _run(self) -> Generator[Step, None, None]:
        session, sampler, timings = self._session, self._sampler, self.timings
        histories = [TokenHistory(session.vocab_size, row) for row in self._prompts] if sampler.needs_history else []
        reasons: list[FinishReason | None] = [None] * len(self._prompts)
        started = perf_counter()
        logits = self._prefill()
        timings.prefill_s = perf_counter() - started
        tokens = sampler(logits, histories)
        step = self._judge(tokens.tolist(), reasons, 1)
        timings.time_to_first_token_s = perf_counter() - started
        yield step
        if None not in reasons:
            return
        started = perf_counter()
        speculation = self._speculation()
        decode = session.decode if speculation is None else speculation.decode
        timings.decode_s += perf_counter() - started
        try:
            while None in reasons:
                started = perf_counter()
                for history, token in zip(histories, tokens.tolist(), strict=False):
                    history.add(token)
                tokens = sampler(decode(tokens), histories)
                timings.decode_steps += 1
                step = self._judge(tokens.tolist(), reasons, timings.decode_steps + 1)
                timings.decode_s += perf_counter() - started
                yield step
        finally:
            if speculation is not None:
                timings.drafted, timings.accepted = speculation.drafted, speculation.accepted
                speculation.settle()

    def _speculation(self) -> Speculation | None:
        """The speculative decoding that replaces the session's decode steps; None if not asked for."""
        if not self._speculates:
            return None
        return Speculation(self._session, self._prompts[0].tolist(), self._prompt_length + self._max_new_tokens - 1)

    def _judge(self, tokens: list[int], reasons: list[FinishReason | None], count: int) -> Step:
        """Note in `reasons` which rows end with these tokens, the `count`-th of the generation."""
        is_last = count >= self._max_new_tokens or self._prompt_length + count > self._session.max_length
        if len(tokens) == 1:  # nearly always: and then a step takes longer the more there is to do here
            reasons[0] = "stop" if tokens[0] in self._stop_token_ids else "length" if is_last else None
            return Step((tokens[0],), (reasons[0],))
        given: list[int | None] = []
        for row, token in enumerate(tokens):
            if reasons[row] is not None:
                given.append(None)
                continue
            given.append(token)
            if token in self._stop_token_ids:
                reasons[row] = "stop"
            elif is_last:
                reasons[row] = "length"
        return Step(tuple(given), tuple(reasons))

    def _prefill(self) -> Logits:
        input_ids, attention_mask = _pad_left(self._prompts)
        if self._cached_length:
            self._session.truncate(self._cached_length)
        else:
            self._session.reset(len(self._prompts))
        return self._session.prefill(input_ids[:, self._cached_length :], attention_mask)


def generate(
    session: Session,
    prompt_ids: Sequence[Sequence[int] | TokenIds],
    params: SamplingParams,
    max_new_tokens: int,
    stop_token_ids: Collection[int] = (),
    *,
    cached_length: int = 0,
    speculate: bool = False,
) -> Generation:
    """Generate tokens after one or more prompts.

    Rows of different lengths are padded on the left; each ends by itself, and the loop ends with the last one. A full
    cache ends all rows with "length".

    Args:
        session: The session, which is reset unless `cached_length` is given.
        prompt_ids: Token ids of each prompt, at least one each.
        params: Sampling parameters.
        max_new_tokens: Most tokens of each row, at least 1.
        stop_token_ids: Token ids that end a row; the row's last token is the first of these that occurs.
        cached_length: Number of leading tokens of a single prompt that the session holds already, less than all; what
            the session holds after them is dropped.
        speculate: Whether to use prompt-lookup speculative decoding, which gives the same tokens sooner where the text
            repeats itself; for a single prompt and a session with `gives_all_logits`.

    Raises:
        UsageError: `max_new_tokens`, `cached_length` or a token id of the parameters is out of range, or speculation is
            not possible here.
        PromptError: There is no prompt, a prompt is empty, or a token id is unknown to the model.
        ContextLengthError: The longest prompt is longer than the session's `max_length`.
    """
    if max_new_tokens < 1:
        raise UsageError(f"max_new_tokens is {max_new_tokens}: it must be 1 or more")
    if not prompt_ids:
        raise PromptError("there is no prompt to continue: expected at least one row of token ids")
    params.check_vocabulary(session.vocab_size)
    prompts = [check_prompt(row, session.max_length, session.vocab_size) for row in prompt_ids]
    if cached_length and not (len(prompts) == 1 and 0 < cached_length < len(prompts[0])):
        raise UsageError(f"cached_length is {cached_length}: it must leave a token to run, of a single prompt")
    if speculate and not (len(prompts) == 1 and session.gives_all_logits):
        raise UsageError("speculative decoding takes a single prompt and a graph that gives the logits of every token")
    return Generation(
        session,
        prompts,
        params,
        max_new_tokens=max_new_tokens,
        stop_token_ids=stop_token_ids,
        cached_length=cached_length,
        speculate=speculate,
    )


def check_prompt(token_ids: Sequence[int] | TokenIds, max_length: int, vocab_size: int) -> TokenIds:
    """The token ids of a prompt as an array, `[S]` int64.

    Args:
        token_ids: Token ids of the prompt.
        max_length: Most positions of a row.
        vocab_size: Size V of the vocabulary.

    Raises:
        PromptError: The prompt is empty, or a token id is unknown to the model.
        ContextLengthError: The prompt is longer than `max_length`.
    """
    if len(token_ids) == 0:
        raise PromptError("the prompt is empty: expected at least one token")
    if len(token_ids) > max_length:
        raise ContextLengthError(
            f"the prompt has {len(token_ids)} tokens, the context holds {max_length}: shorten the prompt, or "
            "raise max_length, at run time up to the length that the model was exported for"
        )
    out_of_range = [token for token in (min(token_ids), max(token_ids)) if not 0 <= token < vocab_size]
    if out_of_range:
        raise PromptError(f"unknown token id {out_of_range[0]}: this model's ids are 0 to {vocab_size - 1}")
    return np.asarray(token_ids, dtype=np.int64)


def _pad_left(prompts: Sequence[TokenIds]) -> tuple[TokenIds, TokenIds | None]:
    """Stack rows to `[B, S]` with zeros on the left, and their `[B, S]` attention mask; None without padding."""
    width = max(map(len, prompts))
    if all(len(row) == width for row in prompts):
        return np.stack(prompts), None
    input_ids = np.zeros((len(prompts), width), dtype=np.int64)
    attention_mask = np.zeros_like(input_ids)
    for row, tokens in enumerate(prompts):
        input_ids[row, width - len(tokens) :] = tokens
        attention_mask[row, width - len(tokens) :] = 1
    return input_ids, attention_mask
