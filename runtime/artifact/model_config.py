"""The `config.json` of an artifact, as far as running it reads the file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec

from .json_file import Count, Name, TokenId, check_json

CONFIG = "config.json"
"""Name of the file in its folder."""

TokenIds: TypeAlias = TokenId | tuple[TokenId, ...]
"""One token id, or several."""

_TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")


class ModelConfig(msgspec.Struct, frozen=True):
    """What is read of `config.json`; None where it does not tell.

    Attributes:
        model_type: Hugging Face's name of the architecture.
        max_position_embeddings: Context length in tokens.
        bos_token_id: Id that starts a text.
        eos_token_id: Ids that end one.
        pad_token_id: Id that fills a batch.
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
    """Integers that another tool wrote as 2.0, as 2: a single one or a list of them; anything else as it is."""
    if isinstance(value, list):
        return [item if isinstance(item, list) else whole(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
