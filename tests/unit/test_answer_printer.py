"""How an answer's pieces reach stdout (cli/answer_printer.py)."""

from __future__ import annotations

import pytest

from minimind_edge.cli.answer_printer import DIM, UNDIM, AnswerPrinter
from minimind_edge.cli.choices import ThinkDisplay

PIECES = ["<thi", "nk>\nI pon", "der.</th", "ink>\n\n", "Par", "is."]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("think", "shown"),
    [
        (ThinkDisplay.SHOW, "<think>\nI ponder.</think>\n\nParis.\n"),
        (ThinkDisplay.HIDE, "Paris.\n"),
        (ThinkDisplay.DIM, f"{DIM}I ponder.{UNDIM}\n\nParis.\n"),
    ],
)
def test_thinking_is_shown_dimmed_or_hidden(think, shown, stream, capsys):
    printer = AnswerPrinter(think, stream=stream)
    for piece in PIECES:
        printer.push(piece)
    early = capsys.readouterr().out
    printer.finish()
    assert early + capsys.readouterr().out == shown
    assert bool(early) == stream


def test_each_piece_is_printed_as_it_comes(capsys):
    printer = AnswerPrinter(ThinkDisplay.DIM, stream=True)
    told = []
    for piece in ["Par", "is", "."]:
        printer.push(piece)
        told.append(capsys.readouterr().out)
    printer.finish()
    assert told == ["Par", "is", "."]
    assert capsys.readouterr().out == "\n"


def test_dimming_ends_with_an_answer_broken_off_while_thinking(capsys):
    printer = AnswerPrinter(ThinkDisplay.DIM, stream=True, thinking=True)
    printer.push("I ponder")
    printer.finish()
    assert capsys.readouterr().out == f"{DIM}I ponder{UNDIM}\n"
