"""The `tokenizer_config.json` of an artifact, as far as text needs it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from .json_file import check_json, read_object

TOKENIZER_CONFIG = "tokenizer_config.json"
"""Name of the file in its folder."""


class TokenEntry(msgspec.Struct, frozen=True):
    """A token that is written out, as transformers' `AddedToken`.

    Attributes:
        content: Its text.
        lstrip: Whether it takes the spaces on its left.
        rstrip: Whether it takes the spaces on its right.
        single_word: Whether it is found only where it is a word by itself.
        special: Whether it is a mark that decoding leaves out.
        normalized: Whether it is looked for in normalized text; None for the opposite of `special`.
    """

    content: str
    lstrip: bool | None = None
    rstrip: bool | None = None
    single_word: bool | None = None
    special: bool | None = None
    normalized: bool | None = None


class NamedTemplate(msgspec.Struct, frozen=True):
    """One of several chat templates.

    Attributes:
        name: Such as `default` or `tool_use`.
        template: The jinja2 text.
    """

    name: str
    template: str


class TokenizerConfig(msgspec.Struct, frozen=True):
    """What is read of `tokenizer_config.json`.

    Attributes:
        roles: The special tokens by role, such as `bos_token`: each a text, or a token that is written out, or None.
        added_tokens_decoder: Tokens by their id, which is a string.
        chat_template: One template, or several by name; None where there is none.
        where: The file, for messages.
    """

    roles: dict[str, str | TokenEntry | None] = {}
    added_tokens_decoder: dict[str, TokenEntry] | None = None
    chat_template: str | tuple[NamedTemplate, ...] | None = None
    where: str = TOKENIZER_CONFIG

    @classmethod
    def read(cls, path: Path) -> TokenizerConfig:
        """Read the file.

        Raises:
            ArtifactError: It cannot be read, is no JSON, or a value is of the wrong type.
        """
        return cls.parse(read_object(path), str(path))

    @classmethod
    def parse(cls, values: Mapping[str, Any], where: str = TOKENIZER_CONFIG) -> TokenizerConfig:
        """Check a tokenizer's config.

        Args:
            values: The file's content.
            where: The file, for messages.

        Raises:
            ArtifactError: A value is of the wrong type.
        """
        roles = {name: value for name, value in values.items() if _is_role(name)}
        for name, value in roles.items():
            check_json({"token": value}, _Role, f"{where}: {name}")
        known = {name: values[name] for name in ("added_tokens_decoder", "chat_template") if name in values}
        return check_json({**known, "roles": roles, "where": where}, cls, where)

    @property
    def special_tokens(self) -> dict[str, str]:
        """The text of each special token by its role, such as `{"bos_token": "<|im_start|>"}`."""
        texts = {name: token.content if isinstance(token, TokenEntry) else token for name, token in self.roles.items()}
        return {name: text for name, text in texts.items() if text}


class _Role(msgspec.Struct):
    token: str | TokenEntry | None


def _is_role(name: str) -> bool:
    return name.endswith("_token") and not name.startswith("add_")
