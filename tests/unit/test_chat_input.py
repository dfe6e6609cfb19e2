"""The messages that the lines of a conversation make up (cli/chat_input.py)."""

from __future__ import annotations

import io
import sys

import pytest

from minimind_edge.cli.chat_input import messages, piped_messages


def said(lines, **options):
    """The messages of these lines, and the prompts that were shown; an exception among the lines is raised."""
    rest, shown = iter(lines), []

    def read_line(prompt):
        shown.append(prompt)
        line = next(rest, None)
        if isinstance(line, BaseException):
            raise line
        return line

    return list(messages(read_line, **options)), shown


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["one", "", "  ", "two"], ["one", "two"]),
        (["a \\", "b\\", "c", "d"], ["a \nb\nc", "d"]),
        (["a\\"], ["a"]),
        (['"""', "a", "", "b", '"""', "c"], ["a\n\nb", "c"]),
        (['"""a', 'b"""', "c"], ["a\nb", "c"]),
        (['"""a"""', "b"], ["a", "b"]),
        (['  """a', '  b"""'], ["a\n  b"]),
        (['"""a', "b\\"], ["a\nb\\"]),
        (['""""""', "a"], ["a"]),
        (['say """ now', "b"], ['say """ now', "b"]),
    ],
)
def test_lines_make_up_messages(lines, expected):
    assert said(lines)[0] == expected


def test_another_prompt_shows_that_a_message_goes_on():
    assert said(["a\\", "b", '"""c', 'd"""'])[1] == ["> ", "... ", "> ", "... ", "> "]


def test_ctrl_c_forgets_a_message_of_several_lines_at_a_terminal_only():
    lines = ['"""a', KeyboardInterrupt(), "b"]
    assert said(lines, is_typed=True)[0] == ["b"]
    with pytest.raises(KeyboardInterrupt):
        said(lines)
    with pytest.raises(KeyboardInterrupt):
        said([KeyboardInterrupt()], is_typed=True)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_pipe_may_begin_with_a_byte_order_mark(monkeypatch, encoding):
    text = '你好\n"""a\nb"""\n\nc'
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode(encoding))))
    assert list(piped_messages()) == ["你好", "a\nb", "c"]


def test_a_closed_pipe_has_no_messages(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    assert list(piped_messages()) == []
