"""The parts of an answer, whichever way its text is cut into pieces."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minimind_edge.server.answer import AnswerParser, Content, Reasoning
from minimind_edge.server.tool_calls import ToolCall, parse_call

CALL = '<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call>'
F = ToolCall("f", '{"x": 1}')


def parts(text: str, cuts: list[int] = (), *, thinking: bool = False) -> list[object]:
    """The parts of a text that comes in pieces, neighbours of the same kind joined."""
    parser = AnswerParser(thinking=thinking, reads_calls=True)
    found = []
    edges = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    for start, end in itertools.pairwise(edges):
        found += parser.push(text[start:end])
    found += parser.finish()
    joined: list[object] = []
    for part in found:
        if joined and not isinstance(part, ToolCall) and type(joined[-1]) is type(part):
            joined[-1] = type(part)(joined[-1].text + part.text)
        else:
            joined.append(part)
    return joined


CASES = [
    ("plain text ", [Content("plain text ")]),
    (CALL, [F]),
    (f"Let me see.\n\n{CALL}\n", [Content("Let me see."), F]),
    (f"{CALL}\n{CALL}", [F, F]),
    (f"{CALL}\nDone. ", [F, Content("Done. ")]),
    ("a < b <tool_", [Content("a < b <tool_")]),
    ("<tool_call>not json</tool_call>!", [Content("<tool_call>not json</tool_call>!")]),
    (f"<tool_call>[]</tool_call>\n{CALL}", [Content("<tool_call>[]</tool_call>"), F]),
    ('<tool_call>{"name": "f"', [Content('<tool_call>{"name": "f"')]),
    (
        '<tool_call>{"name": "f", "arguments": {"x": "a</tool_call>b\\""}}</tool_call>',
        [ToolCall("f", '{"x": "a</tool_call>b\\""}')],
    ),
    ('<tool_call>{"name": "f"}</tool_call>', [ToolCall("f", "{}")]),
    ('<tool_call>{"name": "f", "arguments": "{\\"x\\": 1}"}</tool_call>', [F]),
]


@pytest.mark.parametrize(("text", "expected"), CASES)
@settings(deadline=None)
@given(cuts=st.lists(st.integers(0, 200), max_size=8))
def test_text_and_calls(text, expected, cuts) -> None:
    assert parts(text, cuts) == expected


@settings(deadline=None)
@given(cuts=st.lists(st.integers(0, 200), max_size=8))
def test_calls_inside_a_think_block_are_thoughts(cuts) -> None:
    found = parts(f"Perhaps {CALL}?</think>\n\n{CALL}", cuts, thinking=True)
    assert found == [Reasoning(f"Perhaps {CALL}?"), F]


@pytest.mark.parametrize(
    "block",
    [
        "",
        "{}",
        "null",
        '{"name": 1, "arguments": {}}',
        '{"name": "", "arguments": {}}',
        '{"name": "f", "arguments": []}',
        '{"name": "f", "arguments": "x"}',
        '{"name": "f", "arguments": {"x": NaN}}',
        '{"name": "\\ud800", "arguments": {}}',
        '{"name": "f", "arguments": ' + '{"x":' * 100_000,
    ],
)
def test_blocks_that_are_no_calls(block) -> None:
    assert parse_call(block) is None


def test_arguments_that_utf_8_cannot_hold_stay_escaped() -> None:
    call = parse_call('{"name": "f", "arguments": {"x": "\\ud800"}}')
    assert call is not None
    assert call.arguments.encode() and json.loads(call.arguments) == {"x": "\ud800"}
    assert parse_call('{"name": "f", "arguments": {"x": "世"}}') == ToolCall("f", '{"x": "世"}')
