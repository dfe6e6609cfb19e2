"""How minimind-run shows a completion and ends on Ctrl-C (cli/run_complete.py), with an engine made up."""

from __future__ import annotations

import json

import pytest

from minimind_edge.cli.run_complete import complete
from minimind_edge.cli.run_request import RunRequest
from minimind_edge.runtime.completion import CompletionResult, CompletionTimings
from minimind_edge.runtime.errors import UsageError
from minimind_edge.runtime.options import GenerationOptions
from minimind_edge.runtime.text.prompt import Prompt

TIMINGS = CompletionTimings(
    load_s=0.5, prefill_s=0.1, decode_s=0.2, decode_tokens_per_s=10, time_to_first_token_s=0.125
)


class FakeCompletion:
    prompt = Prompt((1, 2, 3))

    def __init__(self, pieces, interrupted):
        self._pieces, self._interrupted, self.closed = list(pieces), interrupted, False

    def __iter__(self):
        yield from self._pieces
        if self._interrupted:
            raise KeyboardInterrupt

    def close(self):
        self.closed = True

    @property
    def result(self):
        reason = "cancelled" if self.closed else "stop"
        return CompletionResult("".join(self._pieces), [4, 5], 3, 2, reason, TIMINGS)


class FakeEngine:
    operators = "stock"

    def __init__(self, interrupted=False, tokenizer="a tokenizer", pieces=("Hel", "lo")):
        self.tokenizer = tokenizer
        self._interrupted = interrupted
        self._pieces = pieces

    def stream(self, prompt, options):
        self.asked = (prompt, options)
        return FakeCompletion(self._pieces, self._interrupted)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(("interrupted", "code"), [(False, 0), (True, 130)])
def test_text_stays_also_where_it_was_broken_off(capsys, stream, interrupted, code):
    assert complete(FakeEngine(interrupted), "hi", RunRequest(stream=stream)) == code
    assert capsys.readouterr() == ("Hello\n", "")


@pytest.mark.parametrize(("interrupted", "code", "reason"), [(False, 0, "stop"), (True, 130, "cancelled")])
def test_json_is_printed_also_where_it_was_broken_off(capsys, interrupted, code, reason):
    assert complete(FakeEngine(interrupted), "hi", RunRequest(as_json=True)) == code
    told = capsys.readouterr()
    assert json.loads(told.out)["finish_reason"] == reason
    assert told.err == ""


@pytest.mark.parametrize("indent", [False, True])
def test_json_is_one_line_for_programs_and_several_for_people(capsys, indent):
    complete(FakeEngine(), "hi", RunRequest(as_json=True, json_indent=indent))
    told = capsys.readouterr().out
    assert (told.count("\n") == 1) != indent
    assert json.loads(told)["token_ids"] == [4, 5]


def test_tool_calls_are_shown_where_the_model_was_given_tools(capsys):
    pieces = ["<tool_call>", '{"name": "get_time", "arguments": {"zone": "UTC"}}', "</tool_call>"]
    options = GenerationOptions(tools=[{"name": "get_time"}])
    complete(FakeEngine(pieces=pieces), "hi", RunRequest(options))
    assert capsys.readouterr() == ("".join(pieces) + "\n", '(tool call: get_time(zone="UTC"))\n')
    complete(FakeEngine(pieces=pieces), "hi", RunRequest(options, as_json=True))
    told = json.loads(capsys.readouterr().out)
    assert told["tool_calls"] == [{"name": "get_time", "arguments": {"zone": "UTC"}}]
    complete(FakeEngine(pieces=pieces), "hi", RunRequest(as_json=True))
    assert "tool_calls" not in json.loads(capsys.readouterr().out)


def test_without_a_tokenizer_the_ids_are_printed(capsys):
    complete(FakeEngine(tokenizer=None), [1], RunRequest(ids=True))
    assert capsys.readouterr().out == "4,5\n"


def test_stats_are_one_line_on_stderr(capsys):
    complete(FakeEngine(), "hi", RunRequest(stats=True))
    told = capsys.readouterr().err
    assert told == ("[3 prompt tokens, 2 new (stop); 10 tokens/s, first token after 125 ms, loaded in 500 ms]\n")


def test_stats_tell_of_native_operators(capsys):
    engine = FakeEngine()
    engine.operators = "native"
    complete(engine, "hi", RunRequest(stats=True))
    assert capsys.readouterr().err.endswith("loaded in 500 ms, native operators]\n")


def test_every_option_reaches_the_engine():
    engine = FakeEngine()
    options = GenerationOptions(
        system="Be brief.", thinking=True, max_new_tokens=9, stop=("x",), ignore_eos=True, top_k=5
    )
    request = RunRequest(options)
    complete(engine, "hi", request)
    assert engine.asked == ("hi", options)


@pytest.mark.parametrize("given", [{"ids": True}, {"raw": True}, {"as_json": True}, {"ignore_eos": True}])
def test_options_that_have_no_place_in_a_chat_are_refused(given):
    options = GenerationOptions(**{name: given.pop(name) for name in ("raw", "ignore_eos") if name in given})
    with pytest.raises(UsageError, match="--chat and --"):
        RunRequest(options, chat=True, **given)
