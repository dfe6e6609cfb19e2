"""The fields of an artifact's `config.json` that running the model needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec

from .json_file import Count, Name, TokenId, check_json

CONFIG = "config.json"
"""The file's name in the artifact folder."""

TokenIds: TypeAlias = TokenId | tuple[TokenId, ...]
"""One token id, or several."""

_TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")


class ModelConfig(msgspec.Struct, frozen=True):
    """The fields that are read from `config.json`; None where the file lacks them.

    Attributes:
        model_type: Hugging Face's name of the architecture.
        max_position_embeddings: Context length in tokens.
        bos_token_id: Token id that begins a text.
        eos_token_id: Token ids that end a text.
        pad_token_id: Token id that fills the shorter rows of a batch.
    """

    model_type: Name | None = None
    max_position_embeddings: Count | None = None
    bos_token_id: TokenIds | None = None
    eos_token_id: TokenIds | None = None
    pad_token_id: TokenIds | None = None

    @classmethod
    def parse(cls, values: Mapping[str, Any], where: str = CONFIG) -> ModelConfig:
        """Check a config.

        Args:
            values: The file's content.
            where: The file, for messages.

        Raises:
            ArtifactError: A value is of the wrong type or out of its range.
        """
        tokens = {name: whole(values[name]) for name in _TOKENS if name in values}
        return check_json({**values, **tokens}, cls, where)


def whole(value: Any) -> Any:
    """A number, or a list of numbers, with 2.0 as 2, because some tools write integers so; other values as they are."""
    if isinstance(value, list):
        return [item if isinstance(item, list) else whole(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
