"""The `tokenizer_config.json` of an artifact: typed access by key, completed from the two older files next to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from ..errors import ArtifactError
from .json_file import kind as kind_of
from .json_file import read_object

T = TypeVar("T", str, int, float, bool)

_NAMES = {str: "a string", int: "an integer", float: "a number", bool: "true or false"}


class JsonObject(Mapping[str, Any]):
    """A read-only JSON object with typed access; each error names the file and the key.

    Args:
        values: The object.
        where: The location of the object, for messages: a path, and the keys that lead to it.
    """

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self._values = values
        self.where = where

    @classmethod
    def read(cls, path: Path) -> JsonObject:
        """Read a file that holds one object.

        Raises:
            ArtifactError: The file cannot be read, is too large, is not UTF-8 JSON, or its top level is not an object.
        """
        return cls(read_object(path), str(path))

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def optional(self, key: str, kind: type[T]) -> T | None:
        """The value of `key`, None where it is missing or null; an integer passes for a `float`.

        Raises:
            ArtifactError: The value is of another type.
        """
        value = self._values.get(key)
        if value is None:
            return None
        if kind is float and type(value) is int and abs(value) <= 1 << 53:
            value = float(value)
        if type(value) is not kind:  # not isinstance: true is no integer
            self.reject(key, _NAMES[kind])
        return value

    def required(self, key: str, kind: type[T]) -> T:
        """The value of `key`.

        Raises:
            ArtifactError: The key is missing, or its value is of another type.
        """
        value = self.optional(key, kind)
        if value is None:
            self.reject(key, _NAMES[kind])
        return value

    def positive(self, key: str) -> int | None:
        """The integer of `key`, None where it is missing or null.

        Raises:
            ArtifactError: The value is of another type, or less than 1.
        """
        value = self.optional(key, int)
        if value is not None and value < 1:
            self.reject(key, "at least 1")
        return value

    def integers(self, key: str) -> tuple[int, ...]:
        """The integers of `key`, which holds one or a list; empty where it is missing or null.

        Raises:
            ArtifactError: The value is something else.
        """
        value = self._values.get(key)
        items = [] if value is None else value if isinstance(value, list) else [value]
        if any(type(item) is not int for item in items):
            self.reject(key, "an integer or a list of them")
        return tuple(items)

    def child(self, key: str) -> JsonObject:
        """The object of `key`, an empty one where it is missing or null.

        Raises:
            ArtifactError: The value is something else.
        """
        value = self._values.get(key)
        if value is not None and not isinstance(value, dict):
            self.reject(key, "an object")
        return JsonObject(value or {}, f"{self.where}: {key}")

    def children(self, key: str) -> tuple[JsonObject, ...]:
        """The objects of the list `key`; empty where it is missing or null.

        Raises:
            ArtifactError: The value is something else.
        """
        value = self._values.get(key)
        items = [] if value is None else value
        if not isinstance(items, list) or any(not isinstance(item, dict) for item in items):
            self.reject(key, "a list of objects")
        return tuple(JsonObject(item, f"{self.where}: {key}[{index}]") for index, item in enumerate(items))

    def reject(self, key: str, expected: str) -> NoReturn:
        """Raise the error for a key whose value is not as expected.

        Raises:
            ArtifactError: Always.
        """
        found = kind_of(self._values[key]) if key in self._values else "nothing"
        raise ArtifactError(f"{self.where}: {key!r} must be {expected}, found {found}")


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
