"""The `generation_config.json` of an artifact: the default stop tokens and sampling parameters."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

from ..errors import ArtifactError
from .json_file import TokenId, check_json
from .model_config import ModelConfig, TokenIds, whole

GENERATION_CONFIG = "generation_config.json"
"""The file's name in the artifact folder."""

NUMBERS = ("temperature", "top_p", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty")
INTEGERS = (
    *("top_k", "max_new_tokens", "min_new_tokens", "no_repeat_ngram_size"),
    *("bos_token_id", "eos_token_id", "pad_token_id", "forced_eos_token_id"),
)

INERT: Mapping[str, tuple[Any, ...]] = {
    "num_beams": (1,),
    "num_beam_groups": (1,),
    "num_return_sequences": (1,),
    "typical_p": (1.0,),
    "top_h": (),
    "epsilon_cutoff": (0.0,),
    "eta_cutoff": (0.0,),
    "encoder_repetition_penalty": (1.0,),
    "encoder_no_repeat_ngram_size": (0,),
    "diversity_penalty": (0.0,),
    "length_penalty": (),
    "early_stopping": (False,),
    "guidance_scale": (1, 1.0),
    "min_length": (0,),
    "penalty_alpha": (),
    "sequence_bias": (),
    "exponential_decay_length_penalty": (),
    "begin_suppress_tokens": ([],),
    "forced_bos_token_id": (),
    "force_words_ids": (),
    "constraints": (),
    "watermarking_config": (),
    "token_healing": (False,),
    "dola_layers": (),
    "max_time": (),
}
"""Settings of transformers that change which tokens are chosen and that this runtime lacks, each with the values, in
addition to null, that have no effect."""


class GenerationFile(msgspec.Struct, frozen=True):
    """The schema of the fields that are read from `generation_config.json`, after `normalized`."""

    eos_token_id: TokenIds | None = None
    bos_token_id: TokenIds | None = None
    pad_token_id: TokenIds | None = None
    forced_eos_token_id: TokenIds | None = None
    do_sample: bool | None = None
    temperature: float | None = None
    top_k: Annotated[int, msgspec.Meta(ge=0, le=1 << 31)] | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    no_repeat_ngram_size: Annotated[int, msgspec.Meta(ge=0, le=1 << 31)] | None = None
    max_new_tokens: Annotated[int, msgspec.Meta(ge=1, le=1 << 31)] | None = None
    min_new_tokens: Annotated[int, msgspec.Meta(ge=0, le=1 << 31)] | None = None
    suppress_tokens: tuple[TokenId, ...] | None = None
    bad_words_ids: tuple[tuple[TokenId, ...], ...] | None = None
    stop_strings: str | tuple[str, ...] | None = None


@dataclass(frozen=True)
class GenerationConfig:
    """The artifact's defaults for generation; None or empty where it has none. The sampler checks their ranges.

    Attributes:
        eos_token_ids: Token ids that end a text.
        bos_token_id: Token id that begins a text.
        pad_token_id: Token id that fills the shorter rows of a batch.
        do_sample: Whether to sample; False means greedy decoding.
        temperature: Divisor of the logits.
        top_k: Number of likeliest tokens to keep, 0 for all.
        top_p: Probability that the kept likeliest tokens reach together.
        min_p: Least probability of a kept token, as a fraction of the likeliest one's.
        repetition_penalty: Divisor of the logits of tokens that occur in the prompt or the answer.
        presence_penalty: Number subtracted from the logits of tokens that occur in the answer.
        frequency_penalty: Number subtracted from a token's logit for each of its occurrences in the answer.
        no_repeat_ngram_size: Length in tokens of sequences that must not occur twice, 0 for no limit.
        max_new_tokens: Most tokens of an answer.
        min_new_tokens: Least tokens of an answer.
        forced_eos_token_ids: Token ids, one of which ends an answer that reaches its greatest length.
        suppress_tokens: Token ids that are never chosen.
        bad_words_ids: Sequences of token ids that are never completed.
        stop_strings: Strings that end an answer.
    """

    eos_token_ids: tuple[int, ...] = ()
    bos_token_id: int | None = None
    pad_token_id: int | None = None
    do_sample: bool | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    no_repeat_ngram_size: int | None = None
    max_new_tokens: int | None = None
    min_new_tokens: int | None = None
    forced_eos_token_ids: tuple[int, ...] = ()
    suppress_tokens: tuple[int, ...] = ()
    bad_words_ids: tuple[tuple[int, ...], ...] = ()
    stop_strings: tuple[str, ...] = ()

    @classmethod
    def parse(
        cls, values: Mapping[str, Any], config: ModelConfig | None = None, where: str = GENERATION_CONFIG
    ) -> GenerationConfig:
        """Check `generation_config.json`, and complete its special tokens from `config.json`.

        Args:
            values: The content of `generation_config.json`, empty where there is none.
            config: The content of `config.json`, for the special tokens that `values` lacks.
            where: The path of `generation_config.json`, for messages.

        Raises:
            ArtifactError: A value is of the wrong type.
        """
        config = config or ModelConfig()
        file = check_json(normalized(values), GenerationFile, where)
        stop = (file.stop_strings,) if isinstance(file.stop_strings, str) else file.stop_strings or ()
        if "" in stop:
            raise ArtifactError(f"{where}: stop_strings holds an empty text, which every answer has; remove it")
        if any(not word for word in file.bad_words_ids or ()):
            raise ArtifactError(f"{where}: bad_words_ids holds an empty list; remove it")
        return cls(
            eos_token_ids=_ids(file.eos_token_id) or _ids(config.eos_token_id),
            bos_token_id=_first(_ids(file.bos_token_id) or _ids(config.bos_token_id)),
            pad_token_id=_first(_ids(file.pad_token_id) or _ids(config.pad_token_id)),
            do_sample=file.do_sample,
            temperature=file.temperature,
            top_k=file.top_k,
            top_p=file.top_p,
            min_p=file.min_p,
            repetition_penalty=file.repetition_penalty,
            presence_penalty=file.presence_penalty,
            frequency_penalty=file.frequency_penalty,
            no_repeat_ngram_size=file.no_repeat_ngram_size,
            max_new_tokens=file.max_new_tokens,
            min_new_tokens=file.min_new_tokens,
            forced_eos_token_ids=_ids(file.forced_eos_token_id),
            suppress_tokens=file.suppress_tokens or (),
            bad_words_ids=file.bad_words_ids or (),
            stop_strings=stop,
        )


def normalized(values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a generation config with its numbers as numbers: `"0.7"` as 0.7, `2.0` as 2 and -1 of `top_k` as 0.

    Other tools write such values, and transformers reads most of them. A value that is no number stays as it is.
    """
    result = dict(values)
    result.update((name, _number(values[name])) for name in NUMBERS if name in values)
    result.update((name, whole(values[name])) for name in INTEGERS if name in values)
    if result.get("top_k") == -1:
        result["top_k"] = 0
    return result


def ignored_settings(values: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the settings that would change which tokens are chosen, and that this runtime lacks.

    Args:
        values: The content of `generation_config.json`.
    """
    given = ((name, values[name]) for name in INERT if values.get(name) is not None)
    return tuple(name for name, value in given if value not in INERT[name])


def _number(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        number = float(value)
    except ValueError:
        return value
    return number if math.isfinite(number) else value


def _ids(value: int | tuple[int, ...] | None) -> tuple[int, ...]:
    """The token ids that are at least 0; files have negative ones for "none"."""
    ids = () if value is None else value if isinstance(value, tuple) else (value,)
    return tuple(each for each in ids if each >= 0)


def _first(ids: tuple[int, ...]) -> int | None:
    return ids[0] if ids else None
