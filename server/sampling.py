"""What the fields of a request mean for the batch: sampling parameters, limits, and the ends of an answer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from minimind_edge.runtime.batch.request import BatchRequest, TokenConstraint
from minimind_edge.runtime.errors import UsageError
from minimind_edge.runtime.options import FILTERS
from minimind_edge.runtime.sampling import SamplingParams
from minimind_edge.runtime.text.prompt import Prompt

from .engine import BatchEngine
from .errors import bad_request
from .requests import Sampling

_DIRECT = (*FILTERS, "repetition_penalty", "presence_penalty", "frequency_penalty", "seed")


@dataclass(frozen=True)
class Plan:
    """What all answers of a request have in common.

    Attributes:
        params: Sampling parameters of the first answer.
        max_new_tokens: Most tokens of each answer.
        stop_token_ids: Token ids that end an answer.
        stop: Strings that end an answer.
        own_stop: The model's own strings that end an answer; they do not cut an answer that follows a grammar.
        top_logprobs: Number of likeliest tokens with log probabilities; None for no log probabilities.
    """

    params: SamplingParams
    max_new_tokens: int
    stop_token_ids: frozenset[int]
    stop: tuple[str, ...]
    own_stop: tuple[str, ...]
    top_logprobs: int | None

    def request(self, prompt: Prompt, index: int, constraint: TokenConstraint | None = None) -> BatchRequest:
        """The request for the answer with this index of a prompt; each has a seed of its own."""
        params = self.params
        if index and params.seed is not None:
            params = replace(params, seed=params.seed + index)
        return BatchRequest(
            prompt=prompt,
            params=params,
            max_new_tokens=self.max_new_tokens,
            stop_token_ids=self.stop_token_ids,
            stop=self.stop if constraint is not None else (*self.own_stop, *self.stop),
            top_logprobs=self.top_logprobs,
            constraint=constraint,
        )


def make_plan(asked: Sampling, engine: BatchEngine, max_new_tokens: int, top_logprobs: int | None) -> Plan:
    """The plan of a request: its fields, and the model's own defaults where it gives none.

    Args:
        asked: The request.
        engine: The model's engine.
        max_new_tokens: Most tokens of each answer.
        top_logprobs: Number of likeliest tokens with log probabilities; None for no log probabilities.

    Raises:
        ApiError: A value is out of its range (400).
    """
    own_ends = () if asked.ignore_eos else engine.stop_token_ids
    return Plan(
        params=_params(asked, engine),
        max_new_tokens=max_new_tokens,
        stop_token_ids=frozenset((*own_ends, *(asked.stop_token_ids or ()))),
        stop=tuple(_stop_strings(asked.stop)),
        own_stop=tuple(engine.stop_strings),
        top_logprobs=top_logprobs,
    )


def check_stream_options(asked: Sampling) -> None:
    """Check the options of a stream.

    Raises:
        ApiError: There is no stream, or an option is not supported (400).
    """
    options = asked.stream_options
    if options is None:
        return
    if not asked.stream:
        raise bad_request("stream_options needs stream", "stream_options", "invalid_value")
    if options.include_obfuscation:
        name = "stream_options.include_obfuscation"
        raise bad_request(f"{name}: streams are not padded here: expected false", name, "invalid_value")


def _params(asked: Sampling, engine: BatchEngine) -> SamplingParams:
    given: dict[str, Any] = {name: value for name in _DIRECT if (value := getattr(asked, name)) is not None}
    if given.get("top_k") == -1:
        given["top_k"] = 0
    if any(name in given for name in FILTERS):
        given["greedy"] = False
    if asked.logit_bias:
        given["logit_bias"] = _logit_bias(asked.logit_bias, engine.vocab_size)
    if asked.min_tokens:
        ends = (*engine.stop_token_ids, *(asked.stop_token_ids or ()))
        given |= {"min_new_tokens": asked.min_tokens, "eos_token_ids": ends}
    try:
        return replace(engine.default_params, **given)
    except UsageError as error:
        name = str(error).partition(" ")[0]
        raise bad_request(str(error), name if name in given else None, "invalid_value") from error


def _logit_bias(asked: dict[str, float], vocab_size: int) -> tuple[tuple[int, float], ...]:
    for key in asked:
        if not (key.isascii() and key.isdigit() and len(key) < 10 and int(key) < vocab_size):
            message = f"logit_bias: {key!r:.40} is no token id: expected a whole number from 0 to {vocab_size - 1}"
            raise bad_request(message, "logit_bias", "invalid_value")
    return tuple((int(key), float(value)) for key, value in asked.items())


def _stop_strings(asked: str | list[str] | None) -> list[str]:
    strings = [asked] if isinstance(asked, str) else asked or []
    if not all(strings):
        raise bad_request("stop: a stop string is empty: expected at least one character", "stop", "invalid_value")
    return strings
