"""Where a prompt comes from (cli/prompt_input.py)."""

from __future__ import annotations

import io

import pytest

from minimind_edge.cli import prompt_input
from minimind_edge.runtime.errors import PromptError, UsageError


@pytest.fixture
def stdin(monkeypatch):
    def pipe(raw: bytes, isatty: bool = False):
        stream = io.TextIOWrapper(io.BytesIO(raw))
        monkeypatch.setattr(stream, "isatty", lambda: isatty, raising=False)
        monkeypatch.setattr("sys.stdin", stream)

    return pipe


def test_an_argument_goes_before_stdin(stdin):
    stdin(b"piped")
    assert prompt_input.read_prompt("given") == "given"


@pytest.mark.parametrize(
    ("raw", "prompt"), [(b"hi\n", "hi"), (b"hi\r\n", "hi"), (b" a\nb\n\n", " a\nb\n"), ("你好".encode(), "你好")]
)
@pytest.mark.parametrize("argument", [None, "-"])
def test_stdin_loses_its_last_line_break_only(stdin, raw, prompt, argument):
    stdin(raw)
    assert prompt_input.read_prompt(argument) == prompt


@pytest.mark.parametrize("argument", ["", "  ", "\n"])
def test_an_empty_prompt_is_refused(argument):
    with pytest.raises(UsageError, match="empty"):
        prompt_input.read_prompt(argument)


def test_an_empty_pipe_is_refused(stdin):
    stdin(b"")
    with pytest.raises(UsageError, match="empty"):
        prompt_input.read_prompt(None)


def test_a_terminal_is_not_waited_for(stdin):
    stdin(b"", isatty=True)
    with pytest.raises(UsageError, match="no prompt"):
        prompt_input.read_prompt(None)


def test_bytes_that_are_no_utf8_are_named(stdin):
    stdin(b"caf\xe9")
    with pytest.raises(PromptError, match="byte 0xe9 at offset 3"):
        prompt_input.read_prompt(None)


def test_token_ids():
    assert prompt_input.parse_token_ids("1, 2,3") == [1, 2, 3]


@pytest.mark.parametrize("text", ["", "1,,2", "1 2", "a", "1.5"])
def test_what_is_no_list_of_token_ids_is_refused(text):
    with pytest.raises(UsageError, match="--ids expects"):
        prompt_input.parse_token_ids(text)
