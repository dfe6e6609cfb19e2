"""Where the progress of a long command is shown (cli/progress.py), and how its stages share it."""

from __future__ import annotations

import sys

import pytest

from minimind_edge.cli.progress import CLEAR_TO_END, progress_display
from minimind_edge.export.progress import parts


@pytest.fixture
def shown(monkeypatch, capsys):
    """What a job of two steps shows on stderr, where each stream is a terminal or not."""

    def run(out_is_terminal, err_is_terminal, **options):
        monkeypatch.setattr(sys.stdout, "isatty", lambda: out_is_terminal, raising=False)
        monkeypatch.setattr(sys.stderr, "isatty", lambda: err_is_terminal, raising=False)
        with progress_display(**options) as progress:
            progress("reading", 0.0)
            progress("writing", 0.5)
        told = capsys.readouterr()
        assert told.out == ""
        return told.err

    return run


@pytest.mark.parametrize("for_program", [False, True])
def test_a_terminal_is_shown_a_bar_also_by_commands_whose_output_is_for_programs(shown, for_program):
    told = shown(False, True, for_program=for_program)
    assert "50%" in told
    assert "writing" in told
    assert told.endswith(f"\r{CLEAR_TO_END}"), "the bar is removed"


def test_a_log_gets_a_line_for_each_stage_unless_a_program_reads_the_output(shown):
    assert shown(False, False, for_program=False) == "[  0%] reading\n[ 50%] writing\n"
    assert shown(False, False, for_program=True) == ""


def test_a_bar_keeps_off_the_terminal_that_the_output_goes_to(shown):
    assert shown(True, True, for_program=True, shares_terminal=True) == ""
    assert "50%" in shown(False, True, for_program=True, shares_terminal=True)


def test_the_parts_of_a_job_share_its_progress_as_they_share_its_time():
    told = []
    stages = parts(lambda stage, done: told.append((stage, done)), {"read": 1.0, "nothing": 0.0, "write": 3.0})
    stages["read"]("reading", 0.0)
    stages["read"]("reading", 1.0)
    stages["nothing"]("no time", 0.5)
    stages["write"]("writing", 0.5)
    stages["write"]("writing", 1.0)
    assert told == [("reading", 0.0), ("reading", 0.25), ("no time", 0.25), ("writing", 0.625), ("writing", 1.0)]
