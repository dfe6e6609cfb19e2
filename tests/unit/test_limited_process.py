"""The child process for what a hostile file may make endless: its limits, its errors, and systems with fewer limits."""

from __future__ import annotations

import json
import subprocess
import sys
import threading

import pytest

from minimind_edge.runtime.errors import MissingError, PromptError
from minimind_edge.runtime.limited_process import LimitedProcess, LimitError

OPENER = "minimind_edge.runtime.text.template_environment:open_renderer"
TEMPLATES = {
    "echo": "{{ text }}",
    "endless": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "large": "{{ 'x' * 10 ** 10 }}",
    "refused": "{{ raise_exception('no') }}",
}


@pytest.fixture
def process():
    limited = LimitedProcess(OPENER, TEMPLATES, seconds=0.3, memory_mb=256)
    yield limited
    limited.close()


def test_an_error_leaves_the_process_and_a_limit_starts_another(process):
    assert process.ask(["echo", {"text": "caf\udce9 \n 你好"}]) == "caf\udce9 \n 你好"
    first = process._process.pid
    with pytest.raises(PromptError, match="refuses these messages: no"):
        process.ask(["refused", {}])
    assert process.ask(["echo", {"text": "again"}]) == "again"
    assert process._process.pid == first
    for name, reason in (("endless", r"more than 0\.3 s"), ("large", "more than 256 MiB")):
        with pytest.raises(LimitError, match=reason):
            process.ask([name, {}])
        assert process.ask(["echo", {"text": name}]) == name
        assert process._process.pid != first


def test_a_bug_of_the_handler_is_no_limit(process):
    with pytest.raises(LimitError, match="takes down the process that runs it"):
        process.ask(5)


def test_requests_of_many_threads_are_answered_each_by_its_own(process):
    answers = {}

    def ask(name):
        for count in range(20):
            answers[name, count] = process.ask(["echo", {"text": f"{name} {count}"}])

    threads = [threading.Thread(target=ask, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {(name, count): f"{name} {count}" for name in "abcd" for count in range(20)}


def test_where_computing_cannot_be_measured_the_clock_ends_it():
    """Windows has no such timer; the child is run as there, by its own end of the pipes."""
    code = "import signal; del signal.setitimer, signal.SIGPROF\n"
    code += f"from minimind_edge.runtime.limited_process import serve; serve({OPENER!r}, '256')"
    lines = [[20, TEMPLATES], [5, ["echo", {"text": "x"}]], [0.3, ["endless", {}]]]
    run = subprocess.run(
        [sys.executable, "-c", code],
        input="".join(json.dumps(line) + "\n" for line in lines),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.stdout.splitlines() == ['["answer", null]', '["answer", "x"]']
    assert run.returncode == 1


def test_a_system_that_starts_no_process_is_named(process, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(MissingError, match="cannot start a process"):
        process.ask(["echo", {}])
