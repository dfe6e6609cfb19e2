from __future__ import annotations

import itertools

import pytest

from minimind_edge.runtime.text.think import ThinkSplitter, opens_thinking


def join(segments):
    """Neighbours of one kind as one."""
    groups = itertools.groupby(segments, key=lambda segment: segment.kind)
    return [(kind, "".join(segment.text for segment in group)) for kind, group in groups]


def split(pieces, thinking=False):
    splitter = ThinkSplitter(thinking)
    segments = [segment for piece in pieces for segment in splitter.push(piece)]
    return join([*segments, *splitter.finish()])


CASES = [
    ("just an answer", False, [("answer", "just an answer")]),
    ("<think>\nwhy\n</think>\n\nso\n", False, [("think", "why\n"), ("answer", "so\n")]),
    ("why\n</think>\n\nso", True, [("think", "why\n"), ("answer", "so")]),
    ("<think>\n\n</think>\n\nso", False, [("answer", "so")]),
    ("a<think>b</think>c<think>d", False, [("answer", "a"), ("think", "b"), ("answer", "c"), ("think", "d")]),
    ("a < b, <thin", False, [("answer", "a < b, <thin")]),
    ("no </think> here", False, [("answer", "no </think> here")]),
    ("never closed", True, [("think", "never closed")]),
    ("<think>你好</think>世界", False, [("think", "你好"), ("answer", "世界")]),
    ("", False, []),
]


@pytest.mark.parametrize(("text", "thinking", "expected"), CASES)
def test_segments_do_not_depend_on_the_cut(text, thinking, expected):
    assert split([text], thinking) == expected
    assert split(text, thinking) == expected
    for size in (2, 3, 5, 7):
        assert split([text[start : start + size] for start in range(0, len(text), size)], thinking) == expected


def test_only_a_possible_tag_is_held_back():
    splitter = ThinkSplitter()
    assert [join(splitter.push(piece)) for piece in ("a<", "th", "e", "x")] == [
        [("answer", "a")],
        [],
        [("answer", "<the")],
        [("answer", "x")],
    ]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("<|im_start|>assistant\n<think>\n", True),
        ("<|im_start|>assistant\n<think>\n\n</think>\n\n", False),
        ("<|im_start|>user\nwhat is <think>?<|im_end|>\n<|im_start|>assistant\n", False),
        ("", False),
    ],
)
def test_prompts_that_open_a_think_block(prompt, expected):
    assert opens_thinking(prompt) is expected
