"""Ctrl-C in a conversation at a terminal (cli/run_chat.py), with an engine made up."""

from __future__ import annotations

import builtins
import sys

import pytest

from minimind_edge.cli.run_chat import Conversation
from minimind_edge.cli.run_request import RunRequest
from minimind_edge.runtime.errors import InputError
from minimind_edge.runtime.sampling import SamplingParams
from minimind_edge.runtime.text.prompt import Prompt


class FakeChat:
    """Answers with what was said, or fails as it is told."""

    def __init__(self, failures):
        self._failures = failures
        self.messages = []

    def send(self, text):
        self.messages.append(text)
        if text in self._failures:
            raise self._failures[text]
        return FakeCompletion(text)


class FakeCompletion:
    prompt = Prompt((1, 2, 3))
    result = None

    def __init__(self, text):
        self._text = text

    def __iter__(self):
        yield self._text

    def close(self):
        pass


class FakeEngine:
    def __init__(self, failures):
        self.conversation = FakeChat(failures)

    default_params = SamplingParams()

    def chat(self, options, **others):
        return self.conversation


@pytest.fixture
def talk(monkeypatch, capsys):
    """Hold a conversation of these lines; the exit code, and what was shown on stdout."""

    def run(lines, failures, interactive=True):
        monkeypatch.setattr(sys.stdin, "isatty", lambda: interactive, raising=False)
        typed = iter(lines)

        def typing(prompt):
            try:
                return next(typed)
            except StopIteration:
                raise EOFError from None

        monkeypatch.setattr(builtins, "input", typing)
        code = Conversation(FakeEngine(failures), RunRequest(chat=True)).run()
        return code, capsys.readouterr().out

    return run


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), InputError("too long")])
def test_an_answer_that_ends_before_its_first_word_leaves_the_conversation_open(talk, failure):
    assert talk(["one", "two", "three"], {"two": failure}) == (0, "one\nthree\n")
