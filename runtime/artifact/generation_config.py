"""The `generation_config.json` of an artifact: where generation stops, and how its author would sample."""

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
"""Name of the file in its folder."""

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
"""Settings of transformers that change which tokens are chosen and that no runtime here has, each with the values
besides null that change nothing."""


class GenerationFile(msgspec.Struct, frozen=True):
    """What is read of `generation_config.json`, after `normalized`."""

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
    """Defaults of generation; None or empty where the artifact has none. Ranges are the sampler's to check.

    Attributes:
        eos_token_ids: Ids that end a text.
        bos_token_id: Id that starts one.
        pad_token_id: Id that fills a batch.
        do_sample: False asks for greedy decoding.
        temperature: Divides the logits.
        top_k: Number of candidates kept, 0 for all of them.
        top_p: Probability mass kept.
        min_p: Least probability kept, as a part of the greatest.
        repetition_penalty: Divides the logits of tokens that were seen.
        presence_penalty: Subtracted from the logits of tokens of the answer.
        frequency_penalty: Subtracted from them as often as the token occurs in the answer.
        no_repeat_ngram_size: Length in tokens of what must not occur twice, 0 for no such rule.
        max_new_tokens: Length of an answer, in tokens.
        min_new_tokens: Length of an answer, in tokens, before which it does not end.
        forced_eos_token_ids: Ids of which one is the last token of an answer that reaches its greatest length.
        suppress_tokens: Ids that are never chosen.
        bad_words_ids: Sequences of ids of which none is ever completed.
        stop_strings: Texts that end an answer.
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
        """Check the two files that can name special tokens.

        Args:
            values: `generation_config.json`, empty where there is none.
            config: `config.json`, which gives the special tokens that `values` lacks.
            where: The file of `values`, for messages.

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
    """A generation config with its numbers written as what they are: `"0.7"` as 0.7, `2.0` as 2 and -1 of `top_k` as 0.

    Other tools write such values, and transformers reads most of them. What cannot be read as a number stays.
    """
    result = dict(values)
    result.update((name, _number(values[name])) for name in NUMBERS if name in values)
    result.update((name, whole(values[name])) for name in INTEGERS if name in values)
    if result.get("top_k") == -1:
        result["top_k"] = 0
    return result


def ignored_settings(values: Mapping[str, Any]) -> tuple[str, ...]:
    """The settings that would change which tokens are chosen, and that this runtime does not have.

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
    """Token ids without those below 0, by which files say that there is none."""
    ids = () if value is None else value if isinstance(value, tuple) else (value,)
    return tuple(each for each in ids if each >= 0)


def _first(ids: tuple[int, ...]) -> int | None:
    return ids[0] if ids else None
