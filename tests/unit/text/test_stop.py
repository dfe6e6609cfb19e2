from __future__ import annotations

import itertools

import pytest

from minimind_edge.runtime.errors import UsageError
from minimind_edge.runtime.text.text_stream import StopStrings


def run(strings, pieces):
    stops = StopStrings(strings)
    given = []
    for piece in pieces:
        given.append(stops.push(piece))
        if stops.hit is not None:
            return "".join(given), stops.hit
    return "".join(given) + stops.finish(), None


def cuts(text):
    """All ways to cut a text in pieces."""
    for count in range(len(text)):
        for borders in itertools.combinations(range(1, len(text)), count):
            yield [text[start:end] for start, end in itertools.pairwise((0, *borders, len(text)))]


@pytest.mark.parametrize(
    ("strings", "text", "expected"),
    [
        (["END"], "say END now", ("say ", "END")),
        (["END"], "ENENDED", ("EN", "END")),
        (["aab"], "aaab", ("a", "aab")),
        (["abab"], "abaababx", ("aba", "abab")),
        (["abcd", "bc"], "xabcdy", ("xa", "bc")),
        (["abc", "bc"], "xabcy", ("x", "abc")),
        (["。", "好的"], "你好的。", ("你", "好的")),
        (["\n\n"], "a\nb\n\nc", ("a\nb", "\n\n")),
        (["END", "STOP"], "an EN an ST", ("an EN an ST", None)),
        (["x"], "", ("", None)),
    ],
)
def test_result_does_not_depend_on_the_cut(strings, text, expected):
    for pieces in cuts(text) if text else [[]]:
        assert run(strings, pieces) == expected


def test_text_is_held_back_only_while_it_could_be_a_stop_string():
    stops = StopStrings(["</end>"])
    assert [stops.push(piece) for piece in ["a <", "/", "e", "x <", "b>"]] == ["a ", "", "", "</ex ", "<b>"]
    assert stops.push("tail </en") == "tail "
    assert stops.finish() == "</en"
    assert stops.finish() == ""


def test_nothing_is_held_back_without_strings():
    stops = StopStrings([])
    assert stops.push("anything") == "anything"
    assert stops.finish() == ""


def test_nothing_follows_a_hit():
    stops = StopStrings(["."])
    assert stops.push("a.b") == "a"
    assert (stops.push("c"), stops.finish()) == ("", "")


def test_an_empty_stop_string():
    with pytest.raises(UsageError, match="stop string is empty"):
        StopStrings(["a", ""])
