"""The `generation_config.json` of an artifact: where generation stops, and how its author would sample."""

from __future__ import annotations

from dataclasses import dataclass

from .json_object import JsonObject


@dataclass(frozen=True)
class GenerationConfig:
    """Defaults of generation; None where the artifact has none. Ranges are the sampler's to check.

    Attributes:
        eos_token_ids: Ids that end a text.
        bos_token_id: Id that starts one.
        pad_token_id: Id that fills a batch.
        do_sample: False asks for greedy decoding.
        temperature: Divides the logits.
        top_k: Candidates kept.
        top_p: Probability mass kept.
        min_p: Least probability kept, as a part of the greatest.
        repetition_penalty: Divides the logits of tokens that were seen.
        max_new_tokens: Length of an answer, in tokens.
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
    max_new_tokens: int | None = None

    @classmethod
    def parse(cls, values: JsonObject, config: JsonObject) -> GenerationConfig:
        """Check the two files that can name special tokens.

        Args:
            values: `generation_config.json`, empty where there is none.
            config: `config.json`, which gives the special tokens that `values` lacks.

        Raises:
            ArtifactError: A value is of the wrong type.
        """
        bos, pad = (values.integers(key) or config.integers(key) for key in ("bos_token_id", "pad_token_id"))
        return cls(
            eos_token_ids=values.integers("eos_token_id") or config.integers("eos_token_id"),
            bos_token_id=bos[0] if bos else None,
            pad_token_id=pad[0] if pad else None,
            do_sample=values.optional("do_sample", bool),
            temperature=values.optional("temperature", float),
            top_k=values.optional("top_k", int),
            top_p=values.optional("top_p", float),
            min_p=values.optional("min_p", float),
            repetition_penalty=values.optional("repetition_penalty", float),
            max_new_tokens=values.optional("max_new_tokens", int),
        )
