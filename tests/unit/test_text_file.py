"""Text that people bring: byte order marks, and what is no text."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest

from minimind_edge.cli import chat_input, prompt_input
from minimind_edge.runtime.artifact.json_file import read_object
from minimind_edge.runtime.artifact.text_file import decode_text, read_text
from minimind_edge.runtime.errors import ArtifactError, PromptError

MARKED = ("utf-8-sig", "utf-16", "utf-32")
"""Python's codecs that write a byte order mark."""


@pytest.mark.parametrize("encoding", ["utf-8", *MARKED])
def test_a_mark_decides_the_encoding_and_is_not_part_of_the_text(encoding, tmp_path) -> None:
    (tmp_path / "text").write_bytes("你好\n".encode(encoding))
    assert decode_text("你好\n".encode(encoding), "text") == "你好\n"
    assert read_text(tmp_path / "text", 100) == "你好\n"


@pytest.mark.parametrize("mark", [b"\xff\xfe", b"\xfe\xff"])
def test_utf_16_of_either_byte_order(mark) -> None:
    data = "a€".encode("utf-16-le" if mark == b"\xff\xfe" else "utf-16-be")
    assert decode_text(mark + data, "text") == "a€"


def test_what_is_no_text_names_the_byte_and_what_to_do(tmp_path) -> None:
    with pytest.raises(PromptError, match=r"stdin is not UTF-8 text: byte 0xff at offset 2; convert it"):
        decode_text(b"ab\xff", "stdin", PromptError)
    with pytest.raises(ArtifactError, match=r"UTF-16-LE text: byte 0x64 at offset 4"):
        decode_text(b"\xff\xfea\0d", "file")
    (tmp_path / "text").write_bytes(b"x" * 9)
    with pytest.raises(ArtifactError, match="more than 8 bytes"):
        read_text(tmp_path / "text", 8)


@pytest.mark.parametrize("encoding", MARKED)
def test_a_json_file_with_a_mark(tmp_path, encoding) -> None:
    (tmp_path / "config.json").write_bytes('{"a": "你"}'.encode(encoding))
    assert read_object(tmp_path / "config.json") == {"a": "你"}


@pytest.mark.parametrize("encoding", MARKED)
def test_a_prompt_and_a_chat_that_are_piped_in(encoding, monkeypatch) -> None:
    data = "你好\r\nwho are you\r\n".encode(encoding)
    for read in (lambda: prompt_input.read_stdin().splitlines(), lambda: list(chat_input.piped_messages())):
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(data)))
        assert read() == ["你好", "who are you"]
