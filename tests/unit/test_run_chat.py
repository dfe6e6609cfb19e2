"""Ctrl-C and tools in a conversation at a terminal (cli/run_chat.py), with an engine made up."""

from __future__ import annotations

import builtins
import sys

import pytest

from minimind_edge.cli.run_chat import Conversation
from minimind_edge.cli.run_request import RunRequest
from minimind_edge.runtime.completion import CompletionResult, CompletionTimings
from minimind_edge.runtime.errors import InputError
from minimind_edge.runtime.options import GenerationOptions
from minimind_edge.runtime.sampling import SamplingParams
from minimind_edge.runtime.text.prompt import Prompt

TIMINGS = CompletionTimings(load_s=0, prefill_s=0, decode_s=0, decode_tokens_per_s=0, time_to_first_token_s=0)


class FakeChat:
    """Answers with what was said, or fails as it is told."""

    def __init__(self, failures):
        self._failures = failures
        self.messages = []

    def send(self, text, role="user"):
        self.messages.append((role, text))
        if text in self._failures:
            raise self._failures[text]
        return FakeCompletion(text)


class FakeCompletion:
    prompt = Prompt((1, 2, 3))

    def __init__(self, text):
        self._text = text
        self.result = CompletionResult(text, [4], 3, 1, "stop", TIMINGS)

    def __iter__(self):
        yield self._text

    def close(self):
        pass


class FakeEngine:
    operators = "stock"

    def __init__(self, failures):
        self.conversation = FakeChat(failures)

    default_params = SamplingParams()

    def chat(self, options, **others):
        return self.conversation


@pytest.fixture
def talk(monkeypatch, capsys):
    """Hold a conversation of these lines; the exit code, stdout, stderr, and the messages that were sent."""

    def run(lines, failures=(), interactive=True, **options):
        monkeypatch.setattr(sys.stdin, "isatty", lambda: interactive, raising=False)
        typed = iter(lines)

        def typing(prompt):
            try:
                return next(typed)
            except StopIteration:
                raise EOFError from None

        monkeypatch.setattr(builtins, "input", typing)
        engine = FakeEngine(dict(failures))
        code = Conversation(engine, RunRequest(GenerationOptions(**options), chat=True)).run()
        told = capsys.readouterr()
        return code, told.out, told.err, engine.conversation.messages

    return run


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), InputError("too long")])
def test_an_answer_that_ends_before_its_first_word_leaves_the_conversation_open(talk, failure):
    assert talk(["one", "two", "three"], {"two": failure})[:2] == (0, "one\nthree\n")


def test_a_tool_call_is_shown_and_its_result_is_given_back_as_the_tools(talk):
    call = '<tool_call>{"name": "get_weather", "arguments": {"city": "北京", "days": 2}}</tool_call>'
    _, out, err, sent = talk([call, "/tool sunny", "thanks"], tools=[{"name": "get_weather"}])
    assert sent == [("user", call), ("tool", "sunny"), ("user", "thanks")]
    assert out.startswith(f"{call}\n"), "the answer itself stays as it is"
    assert err.count("tool call") == 1
    assert '(tool call: get_weather(city="北京", days=2))\n(/tool RESULT answers it)\n' in err


def test_without_tools_the_same_text_is_no_call(talk):
    assert "tool call" not in talk(['<tool_call>{"name": "f"}</tool_call>'])[2]


def test_help_tells_how_to_write_several_lines(talk):
    assert 'between """ and """' in talk(["/help"])[2]
