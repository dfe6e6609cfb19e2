"""The `tokenizer_config.json` of an artifact, completed from the two older files that list special tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .json_object import JsonObject

LISTS = ("extra_special_tokens", "additional_special_tokens")
"""The keys of the list of special tokens without a role, in transformers 5 and in transformers 4."""

BEGINS_WITH_BOS = "begins_with_bos"
"""The key of `tokenizer_config.json` by which an export says that raw prompts begin with `bos_token`."""


def complete_config(config: JsonObject, special_tokens_map: JsonObject, added_tokens: JsonObject) -> JsonObject:
    """The content of `tokenizer_config.json`, completed from two older files where it does not list tokens by id.

    Args:
        config: The content of `tokenizer_config.json`.
        special_tokens_map: The content of `special_tokens_map.json`, empty where there is none.
        added_tokens: The content of `added_tokens.json`, ids by text; empty where there is none.

    Raises:
        ArtifactError: An id is not an integer.

    Source:
        transformers 5, `PreTrainedTokenizerBase._from_pretrained`.
    """
    if "added_tokens_decoder" in config or not (special_tokens_map or added_tokens):
        return config
    values = {**config, **{key: _marked(value) for key, value in special_tokens_map.items() if value}}
    for key in LISTS:
        if config.get(key):
            values[key] = config[key]
    complete = JsonObject(values, config.where)
    if added_tokens:
        special = {*special_tokens(complete).values(), *(token["content"] for token in extra_tokens(complete))}
        by_id = {str(added_tokens.required(text, int)): text for text in added_tokens}
        values["added_tokens_decoder"] = {
            key: {"content": text, "special": text in special, "normalized": text not in special}
            for key, text in by_id.items()
        }
    return complete


def _marked(value: Any) -> Any:
    """A token, or a list of tokens, with the mark `__type` that `tokenizer_config.json` puts on token objects."""
    if isinstance(value, list):
        return [_marked(item) for item in value]
    return (
        {**value, "__type": "AddedToken", "special": True} if isinstance(value, dict) and "content" in value else value
    )


def special_tokens(config: JsonObject) -> dict[str, str]:
    """The texts, by name, of the special tokens with a role, such as `bos_token`, and of named extra ones.

    Raises:
        ArtifactError: A value is not a token.
    """
    names = [name for name in config if name.endswith("_token") and not name.startswith("add_")]
    texts = {name: _text(config, name) for name in names}
    if isinstance(config.get("extra_special_tokens"), Mapping):
        named = config.child("extra_special_tokens")
        texts |= {name: _text(named, name) for name in named}
    return {name: text for name, text in texts.items() if text}


def _text(config: JsonObject, name: str) -> str | None:
    """The text of a token, which is a string or an object with `content`; None where it is missing or null."""
    if isinstance(config[name], Mapping):
        return config.child(name).required("content", str)
    return config.optional(name, str)


def extra_tokens(config: JsonObject) -> list[JsonObject]:
    """The special tokens without a role, as objects with `content`, `special` and `normalized`.

    Raises:
        ArtifactError: An entry of their list is not a token.
    """
    key = next((key for key in LISTS if isinstance(config.get(key), list) and config[key]), None)
    if key is None:
        return []
    tokens = []
    for item in config[key]:
        fields = {"content": item} if isinstance(item, str) else item
        if not isinstance(fields, Mapping):
            config.reject(key, "a list of tokens")
        tokens.append(JsonObject({"normalized": False, **fields, "special": True}, f"{config.where}: {key}"))
        tokens[-1].required("content", str)
    return tokens
