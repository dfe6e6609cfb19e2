"""JSON objects with typed access by key, for a tokenizer's files, whose keys are not known beforehand.

Files with known keys have a schema instead: `json_file` reads them.
"""

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
