"""The options of a generation, shared by completions, conversations, commands and the server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypedDict

from .sampling import SamplingParams

FILTERS = ("temperature", "top_k", "top_p", "min_p")
"""The sampling options that have no effect on greedy decoding, except that temperature 0 is greedy itself."""


class GenerationFields(TypedDict, total=False):
    """The fields of `GenerationOptions` as keyword arguments."""

    max_new_tokens: int | None
    stop: Sequence[str]
    ignore_eos: bool
    raw: bool
    system: str | None
    tools: Sequence[Mapping[str, Any]] | None
    thinking: bool | None
    greedy: bool | None
    temperature: float | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    repetition_penalty: float | None
    seed: int | None


@dataclass(frozen=True)
class GenerationOptions:
    """A user's options for one generation; None keeps the model's own default.

    Attributes:
        max_new_tokens: Most tokens of the answer, at least 1.
        stop: Strings that end the answer and are not part of it.
        ignore_eos: Continue after the tokens that end a text.
        raw: Continue the text of the prompt as it is, without the chat template.
        system: A system message before all others.
        tools: JSON schemas of the functions that the model may call.
        thinking: Whether to ask the model to think first; None leaves the choice to its chat template.
        greedy: Always take the likeliest token, whatever the other sampling options are.
        temperature: Divisor of the logits; 0 is greedy.
        top_k: Number of likeliest tokens to keep.
        top_p: Probability that the kept likeliest tokens reach together.
        min_p: Least probability of a kept token, as a fraction of the likeliest one's.
        repetition_penalty: Above 1, tokens that were seen before become less likely.
        seed: Seed of the random generator.

    """

    max_new_tokens: int | None = None
    stop: Sequence[str] = ()
    ignore_eos: bool = False
    raw: bool = False
    system: str | None = None
    tools: Sequence[Mapping[str, Any]] | None = None
    thinking: bool | None = None
    greedy: bool | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None

    def sampling_params(self, default: SamplingParams) -> SamplingParams:
        """The model's own parameters, with those that the options give replaced.

        A model that is greedy by default samples as soon as a temperature or a filter is given.

        Args:
            default: The model's own parameters.

        Raises:
            UsageError: A value is out of its range.
        """
        filters = {name: value for name in FILTERS if (value := getattr(self, name)) is not None}
        others = {name: value for name in ("repetition_penalty", "seed") if (value := getattr(self, name)) is not None}
        greedy = default.greedy and not filters if self.greedy is None else self.greedy
        return replace(default, greedy=greedy, **filters, **others)
