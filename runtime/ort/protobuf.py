"""Protobuf's wire format: reading the fields of a message where they lie, and writing fields."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from typing import NamedTuple

VARINT, EIGHT_BYTES, LENGTH_DELIMITED, FOUR_BYTES = 0, 1, 2, 5
"""The wire types: integers, fixed64, bytes and messages, fixed32."""

FIXED_SIZES = {EIGHT_BYTES: 8, FOUR_BYTES: 4}

VARINT_BYTES = 10
"""The most bytes of a varint, which has 64 bits in groups of seven."""

MOST_FIELDS = 200_000
"""The most fields that a reader reads; a decoder of 100 layers has fewer than 10,000."""


class Field(NamedTuple):
    """A field of a message: its place in the data.

    Attributes:
        number: The field's number.
        wire: Its wire type.
        begin: Where the field begins, with its key.
        start: Where its content begins.
        stop: Where it ends.
    """

    number: int
    wire: int
    begin: int
    start: int
    stop: int


_field = tuple.__new__
"""Makes a field in half the time that the class's own constructor takes."""

_ONE_BYTE = [bytes([number]) for number in range(0x80)]


class Reader:
    """Reads the fields of messages, without what they hold.

    Args:
        data: The bytes of the outermost message.
    """

    def __init__(self, data: bytes | mmap.mmap) -> None:
        self._data = data
        self._left = MOST_FIELDS

    def fields(self, start: int, stop: int) -> Iterator[Field]:
        """The fields of the message from `start` to `stop`.

        Raises:
            ValueError: It is no message, it has groups, or more fields were read than `MOST_FIELDS`.
        """
        at, data = start, self._data
        while at < stop:
            self._left -= 1
            if self._left < 0:
                raise ValueError("too many fields")
            begin = at
            # Nearly all keys and lengths are one byte; a call for each would double the time of reading a graph.
            if (key := data[at]) < 0x80:
                at += 1
            else:
                key, at = self._varint(at, stop)
            if key & 7 == LENGTH_DELIMITED and at < stop and (size := data[at]) < 0x80:
                content, end = at + 1, at + 1 + size
            else:
                content, end = self._content(key & 7, at, stop)
            if end > stop:
                raise ValueError("a field that is longer than its message")
            yield _field(Field, (key >> 3, key & 7, begin, content, end))
            at = end

    def content(self, field: Field) -> bytes:
        """The content of a field."""
        return self._data[field.start : field.stop]

    def integer(self, field: Field) -> int:
        """The number in a field of wire type `VARINT`, as a signed one of 64 bits, which is how ONNX has them."""
        number = self._varint(field.start, field.stop)[0] & (1 << 64) - 1
        return number - (1 << 64) if number >> 63 else number

    def whole(self, field: Field) -> bytes:
        """A field with its key."""
        return self._data[field.begin : field.stop]

    def _content(self, wire: int, at: int, stop: int) -> tuple[int, int]:
        """Where the content that begins at `at` starts, after its length, and where it ends."""
        if wire == VARINT:
            return at, self._varint(at, stop)[1]
        if wire == LENGTH_DELIMITED:
            size, at = self._varint(at, stop)
            return at, at + size
        if wire in FIXED_SIZES:
            return at, at + FIXED_SIZES[wire]
        raise ValueError(f"wire type {wire}")

    def _varint(self, at: int, stop: int) -> tuple[int, int]:
        """The varint at a place, and where it ends."""
        number = shift = 0
        while at < stop and shift < 7 * VARINT_BYTES:
            byte = self._data[at]
            at += 1
            if byte < 0x80:
                return number | byte << shift, at
            number |= (byte & 0x7F) << shift
            shift += 7
        raise ValueError("a varint without an end")


def varint(number: int) -> bytes:
    """A number in groups of seven bits, the lowest first; the high bit of a byte says that more follow."""
    if number < 0x80:
        return _ONE_BYTE[number]
    groups = bytearray()
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*groups, number])


def key(field: int, size: int) -> bytes:
    """The beginning of a field of this many bytes: its number, wire type and length, as varints."""
    return varint(field << 3 | LENGTH_DELIMITED) + varint(size)


def message(field: int, *parts: bytes) -> bytes:
    """A field that holds bytes, a string, or the fields of a message."""
    content = b"".join(parts)
    return key(field, len(content)) + content


def integer(field: int, number: int) -> bytes:
    """A field that holds a number of at least 0."""
    return varint(field << 3 | VARINT) + varint(number)


def float32(field: int, number: float) -> bytes:
    """A field that holds a number as a float32."""
    return varint(field << 3 | FOUR_BYTES) + struct.pack("<f", number)
