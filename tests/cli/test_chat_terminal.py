"""A conversation at a terminal: Ctrl-C ends an answer and gives the prompt back, Ctrl-D leaves."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import subprocess
import sysconfig
import termios
import time
from pathlib import Path

import pytest

SCRIPT = Path(sysconfig.get_path("scripts")) / "minimind-run"
SECONDS = 60
CTRL_C, CTRL_D = b"\x03", b"\x04"


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, *words):
        self._master, slave = pty.openpty()
        # A session of its own makes the terminal the controlling one, so that Ctrl-C typed there reaches the program.
        self.process = subprocess.Popen(
            list(map(str, words)),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - makes the terminal its own
        )
        os.close(slave)
        self._seen = b""

    def type(self, keys: bytes):
        time.sleep(0.5)  # readline sets the terminal up once the prompt is shown; what comes sooner can be lost
        os.write(self._master, keys)

    def wait_for(self, text: bytes) -> bytes:
        """Return what was shown up to and with this text, since the last wait."""
        until = time.monotonic() + SECONDS
        while text not in self._seen:
            ready, _, _ = select.select([self._master], [], [], max(0.0, until - time.monotonic()))
            assert ready, f"no {text!r} within {SECONDS} s: {self._seen!r}"
            self._seen += os.read(self._master, 4096)
        shown, found, self._seen = self._seen.partition(text)
        return shown + found

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self._master)


@pytest.fixture
def chat(artifact):
    terminal = Terminal(SCRIPT, "--engine", artifact, "--chat", "--greedy", "-n", 8000)
    yield terminal
    terminal.close()


def test_ctrl_c_ends_the_answer_and_ctrl_d_the_conversation(chat):
    chat.wait_for(b"> ")
    chat.type(b"/help\r")
    assert b"/reset" in chat.wait_for(b"> ")
    chat.type(b"Tell me a story\r")
    chat.wait_for(b"\n")
    time.sleep(0.5)
    chat.type(CTRL_C)
    chat.wait_for(b"\n> ")
    chat.type(CTRL_D)
    assert chat.process.wait(timeout=SECONDS) == 0


def test_ctrl_c_at_the_prompt_leaves(chat):
    chat.wait_for(b"> ")
    chat.type(CTRL_C)
    assert chat.process.wait(timeout=SECONDS) == 0
