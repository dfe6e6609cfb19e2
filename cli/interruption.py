"""Ctrl-C, SIGTERM and SIGHUP: a command ends within a second, whatever it is computing.

Python runs a signal's handler in the main thread, between two steps of Python's own: while a graph runs, there are
none. So a second thread watches the pipe into which a signal is also written. It gives the main thread a moment to see
the signal by itself, then ends the runs of all models, and in the end the process.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
import time
from types import FrameType
from typing import NoReturn

GRACE_SECONDS = 0.2
"""How long the main thread may take to see a signal before the runs of models are ended."""

LIMIT_SECONDS = 0.8
"""How long it may take in all before the process is ended."""

SIGNAL_BASE = 128
"""What is added to a signal's number for the exit code, as shells do."""

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))

EXIT_CODES = frozenset(SIGNAL_BASE + number for number in SIGNALS)
"""The exit codes of a command that a signal has ended."""


class Ended(SystemExit):
    """The end of the process by a signal; `code` is its exit code."""

    code: int


class SignalWatch:
    """The handlers of a command, and the thread that watches whether they get to run.

    Signals that the process was started to ignore, as `nohup` has it, stay ignored.
    """

    def __init__(self) -> None:
        self._turn = threading.RLock()
        self._pipe: tuple[int, int] | None = None

    def begin(self) -> None:
        """Install the handlers, and begin to watch where the system has pipes that can be watched."""
        for number in SIGNALS:
            if signal.getsignal(number) not in {signal.SIG_IGN, None}:
                signal.signal(number, self._handle)
        if sys.platform == "win32":
            return
        self._pipe = os.pipe()
        for end in self._pipe:
            os.set_blocking(end, False)
        signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
        threading.Thread(target=self._watch, name="signals", daemon=True).start()

    def _handle(self, number: int, _: FrameType | None) -> NoReturn:
        """In the main thread: end what it does, by Ctrl-C's own exception or with the signal's exit code."""
        with self._turn:
            self._take()
            runtime = sys.modules.get("minimind_edge.runtime.interruption")
            if runtime is not None:
                runtime.allow_runs()
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise Ended(SIGNAL_BASE + number)

    def _watch(self) -> None:
        while True:
            self._waits(None)
            time.sleep(GRACE_SECONDS)
            with self._turn:
                if self._waits(0.0):
                    runtime = sys.modules.get("minimind_edge.runtime.interruption")
                    if runtime is not None:
                        runtime.interrupt_runs()
            time.sleep(LIMIT_SECONDS - GRACE_SECONDS)
            if self._waits(0.0):
                self._end()

    def _end(self) -> NoReturn:
        """End the process from here; what it was writing is removed."""
        number = next(iter(self._take()), int(signal.SIGINT))
        remove_unfinished()
        os._exit(SIGNAL_BASE + number)

    def _waits(self, seconds: float | None) -> bool:
        """Whether a signal that the main thread has not seen comes within so many seconds; None waits for one."""
        assert self._pipe is not None
        return bool(select.select([self._pipe[0]], [], [], seconds)[0])

    def _take(self) -> bytes:
        """The numbers of the signals that were waiting."""
        if self._pipe is None:
            return b""
        with contextlib.suppress(BlockingIOError):
            return os.read(self._pipe[0], 64)
        return b""


def remove_unfinished() -> None:
    """Remove the files that this process was writing, if it was."""
    staging = sys.modules.get("minimind_edge.export.artifact.staging")
    if staging is not None:
        with contextlib.suppress(OSError):
            staging.abandon()


def release_signals() -> None:
    """Give the signals back to the system's own handling, for a program that from now on handles them itself."""
    signal.set_wakeup_fd(-1)
    for number in SIGNALS:
        if signal.getsignal(number) not in {signal.SIG_IGN, None}:
            signal.signal(number, signal.SIG_DFL)


def watch_signals() -> None:
    """End this process within a second of Ctrl-C, SIGTERM or SIGHUP; for commands, never for a library."""
    SignalWatch().begin()
