"""Reading text from files and from stdin, in UTF-8 or in the encoding of its byte order mark."""

from __future__ import annotations

import codecs
from pathlib import Path

from ..errors import ArtifactError, InputError

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def decode_text(data: bytes, name: str, error: type[InputError] = ArtifactError) -> str:
    """Decode text in the encoding of its byte order mark, which is removed; without one the text is UTF-8.

    Args:
        data: The bytes, from the beginning of the text on.
        name: The source of the bytes, for the message: a path, or `stdin`.
        error: The class of the error to raise.

    Raises:
        InputError: The bytes are not text in that encoding; of the class `error`.
    """
    mark, encoding = next((each for each in _MARKS if data.startswith(each[0])), (b"", "utf-8"))
    try:
        return data[len(mark) :].decode(encoding)
    except UnicodeDecodeError as reason:
        offset = len(mark) + reason.start
        raise error(
            f"{name} is not {encoding.upper()} text: byte 0x{data[offset]:02x} at offset {offset}; "
            "convert it to UTF-8 first"
        ) from reason


def has_wide_characters(data: bytes) -> bool:
    """Whether text begins with the byte order mark of UTF-16 or UTF-32."""
    return data.startswith(tuple(mark for mark, _ in _MARKS[1:]))


def read_text(path: Path, max_bytes: int) -> str:
    """Read a text file in the encoding of its byte order mark, by default UTF-8.

    Args:
        path: The file.
        max_bytes: Size limit of the file, in bytes.

    Raises:
        ArtifactError: The file cannot be read, is larger than `max_bytes`, or is not text.
    """
    return decode_text(read_bytes(path, max_bytes), str(path))


def read_bytes(path: Path, max_bytes: int) -> bytes:
    """Read a file of at most `max_bytes` bytes.

    Raises:
        ArtifactError: The file cannot be read, or is larger than `max_bytes`.
    """
    try:
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except (OSError, ValueError) as error:  # a name with a NUL is a ValueError
        raise ArtifactError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    if len(data) > max_bytes:
        raise ArtifactError(f"{path} has more than {max_bytes} bytes, the most that is read of such a file")
    return data
