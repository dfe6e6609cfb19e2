"""A conversation at a terminal: Ctrl-C ends an answer and gives the prompt back, Ctrl-D leaves."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import shutil
import subprocess
import sysconfig
import termios
import time
from pathlib import Path

import pytest

SCRIPT = Path(sysconfig.get_path("scripts")) / "minimind-run"
SECONDS = 60
VOCABULARY = 2048
pytestmark = pytest.mark.alone  # what is typed before the terminal is set up is lost
CTRL_C, CTRL_D = b"\x03", b"\x04"
PASTE_BEGINS, PASTE_ENDS = b"\x1b[200~", b"\x1b[201~"
"""What a terminal puts around text that is pasted, once it was asked to (xterm's bracketed paste)."""
PASTE_MODE = re.compile(rb"\x1b\[\?2004(?:h|l\r?)")
"""What asks it to, and what takes that back."""


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
            env=os.environ | {"TERM": "dumb"},  # no escape sequences around the prompt
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - makes the terminal its own
        )
        os.close(slave)
        self._seen = b""

    def type(self, keys: bytes):
        """Press keys at the prompt."""
        time.sleep(0.5)  # readline sets the terminal up once the prompt is shown; what comes sooner can be lost
        self.press(keys)

    def press(self, keys: bytes):
        os.write(self._master, keys)

    def wait_for(self, text: bytes) -> bytes:
        """Return what was shown up to and with this text, since the last wait."""
        self._read_until(lambda: text in self._seen, f"no {text!r}")
        shown, found, self._seen = self._seen.partition(text)
        return shown + found

    def wait_for_more(self):
        """Wait until anything is shown, since the last wait."""
        self._read_until(lambda: self._seen, "nothing more")

    def _read_until(self, is_there, missing):
        until = time.monotonic() + SECONDS
        while not is_there():
            ready, _, _ = select.select([self._master], [], [], max(0.0, until - time.monotonic()))
            assert ready, f"{missing} within {SECONDS} s: {self._seen!r}"
            self._seen = PASTE_MODE.sub(b"", self._seen + os.read(self._master, 4096))

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self._master)


@pytest.fixture
def chat(artifact):
    terminal = Terminal(SCRIPT, "--engine", artifact, "--chat", "--greedy", "-n", 8000)
    yield terminal
    terminal.close()


@pytest.fixture
def endless_chat(artifact, tmp_path):
    """A chat whose answers end at their limit alone: what is told to end a text is behind the vocabulary."""
    endless = tmp_path / "endless"
    shutil.copytree(artifact, endless)
    path = endless / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token_id": VOCABULARY}))
    terminal = Terminal(SCRIPT, "--engine", endless, "--chat", "--greedy", "-n", 8000)
    yield terminal
    terminal.close()


def test_ctrl_c_ends_the_answer_and_ctrl_d_the_conversation(endless_chat):
    endless_chat.wait_for(b"> ")
    endless_chat.type(b"/help\r")
    assert b"/reset" in endless_chat.wait_for(b"> ")
    endless_chat.type(b"Tell me a story\r")
    endless_chat.wait_for(b"\n")  # what was typed
    endless_chat.wait_for_more()  # the answer has begun
    endless_chat.press(CTRL_C)
    endless_chat.wait_for(b"\n> ")
    endless_chat.type(CTRL_D)
    assert endless_chat.process.wait(timeout=SECONDS) == 0


def test_ctrl_c_at_the_prompt_leaves(chat):
    chat.wait_for(b"> ")
    for _ in range(SECONDS):  # what comes before readline has set the terminal up can be lost
        chat.type(CTRL_C)
        with contextlib.suppress(subprocess.TimeoutExpired):
            assert chat.process.wait(timeout=1) == 0
            return
    pytest.fail("Ctrl-C does not leave")


@pytest.mark.parametrize(
    "typed",
    [
        PASTE_BEGINS + b"How are you,\nall of you,\ntoday?" + PASTE_ENDS + b"\r",
        b'"""How are you,\rall of you,\rtoday?"""\r',
        b"How are you,\\\rall of you,\\\rtoday?\r",
    ],
    ids=["pasted", "between quotes", "after backslashes"],
)
def test_lines_that_belong_together_are_one_message(artifact, typed, command):
    """The answer is that to the three lines at once, as --messages gets it."""
    message = [{"role": "user", "content": "How are you,\nall of you,\ntoday?"}]
    options = ("--engine", artifact, "--greedy", "-n", 12)
    alone = command("minimind-run", *options, "--messages", "-", stdin=json.dumps(message)).stdout
    terminal = Terminal(SCRIPT, *options, "--chat")
    try:
        terminal.wait_for(b"> ")
        terminal.type(typed)
        shown = terminal.wait_for(alone.strip().encode()[:20])
        assert shown.count(b"today?") >= 1
        terminal.type(CTRL_D)
        assert terminal.process.wait(timeout=SECONDS) == 0
    finally:
        terminal.close()
