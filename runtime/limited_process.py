"""A child process that answers requests within limits of time and memory, to contain files that nobody vouches for."""

from __future__ import annotations

import json
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias

from . import errors
from .errors import EdgeError, MissingError

if TYPE_CHECKING:
    from subprocess import Popen

Handler: TypeAlias = Callable[[Any], Any]
"""A function from a request to its answer, both JSON values."""

WALL_FACTOR = 10
"""The limit of wall-clock time as a multiple of that of CPU time, where CPU time can be measured."""

OPEN_SECONDS = 20.0
"""The seconds that an opener may take: imports on a slow device, and large tokenizers, take some."""

_CHILD = "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from {0} import serve; serve(*sys.argv[2:])"


_BUG = 70
"""The child's exit code where the handler raised an unexpected error."""


class LimitError(Exception):
    """A limit ended the child process, or it crashed; the message is a predicate, such as "takes more than 1 s"."""


class LimitedProcess:
    """A child process that opens a handler once and passes requests to it, one at a time.

    It starts with the first request, starts again after a limit has ended it, and outlives its parent by the time of
    one request at most. POSIX systems limit its CPU time, others the wall-clock time; where the system cannot limit
    the memory of a process (Windows, macOS), time is the only limit.

    Args:
        opener: `module:function`, imported in the child only; the function makes the handler from `setup`.
        setup: The opener's argument, a JSON value.
        seconds: Time limit of each request; that of the opener is `OPEN_SECONDS`.
        memory_mb: Memory limit of the child, in MiB.
    """

    def __init__(self, opener: str, setup: Any, *, seconds: float, memory_mb: int) -> None:
        self._opener = opener
        self._setup = setup
        self._seconds = seconds
        self._memory_mb = memory_mb
        self._lock = threading.Lock()
        self._process: Popen[bytes] | None = None
        self._finalizer: Callable[[], object] | None = None

    def ask(self, request: Any) -> Any:
        """Send a request, and return the handler's answer.

        Args:
            request: A JSON value.

        Raises:
            EdgeError: The handler raised this error.
            LimitError: The handler took too much time or memory, or broke the process.
            MissingError: The system cannot start a process.
        """
        with self._lock:
            if self._process is None:
                self._start()
                self._exchange(self._setup, OPEN_SECONDS)
            return self._exchange(request, self._seconds)

    def close(self) -> None:
        """End the process; the next request starts a new one."""
        if self._finalizer is not None:
            self._finalizer()
        self._process = self._finalizer = None

    def _start(self) -> None:
        import subprocess

        paths = json.dumps([path for path in sys.path if path])
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-c", _CHILD.format(__name__), paths, self._opener, str(self._memory_mb)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        except (OSError, ValueError) as error:
            raise MissingError(f"cannot start a process to contain an unknown file: {error}") from error
        self._finalizer = weakref.finalize(self, _end, self._process)

    def _exchange(self, request: Any, seconds: float) -> Any:
        assert self._process is not None
        try:
            line = _exchange_line(self._process, json.dumps([seconds, request]).encode() + b"\n")
        except BaseException:  # also Ctrl-C: an answer left unread would be taken for that of the next request
            self.close()
            raise
        if not line.endswith(b"\n"):
            reason = self._reason(self._process.wait(), seconds)
            self.close()
            raise LimitError(reason)
        kind, value = json.loads(line)
        if kind == "answer":
            return value
        if kind == "memory":
            self.close()
            raise LimitError(self._memory_reason)
        raise getattr(errors, kind)(value)

    def _reason(self, code: int, seconds: float) -> str:
        import signal

        if code in (1, -getattr(signal, "SIGPROF", 0)):
            return f"takes more than {seconds:g} s"
        if code in (-getattr(signal, "SIGABRT", 0), -getattr(signal, "SIGKILL", 0)):
            return self._memory_reason
        return f"takes down the process that runs it (exit code {code})"

    @property
    def _memory_reason(self) -> str:
        return f"takes more than {self._memory_mb} MiB of memory"


def _exchange_line(process: Popen[bytes], request: bytes) -> bytes:
    """Send a line and read the answer's; it is incomplete where the process has ended."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(request)
        process.stdin.flush()
    except OSError:  # the process ended before it had read all
        return b""
    return process.stdout.readline()


def _end(process: Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        try:
            if stream is not None:
                stream.close()
        except OSError:  # unwritten input has no reader any more
            pass


def serve(opener: str, memory_mb: str) -> None:
    """Run the child: one request on each line, the first of which opens the handler, until stdin is closed.

    Args:
        opener: `module:function`.
        memory_mb: Memory limit of the process, in MiB.
    """
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C at a terminal is the parent's to handle
    sys.excepthook = lambda *_: os._exit(_BUG)  # code 1 is the time limit's
    _limit_memory(int(memory_mb) << 20)
    module, _, function = opener.partition(":")
    handler: Handler | None = None
    for line in sys.stdin.buffer:
        seconds, request = json.loads(line)
        with Path(os.devnull).open("w") as nowhere, _time_limit(seconds, nowhere):
            try:
                if handler is None:
                    handler = getattr(import_module(module), function)(request)
                    answer = ["answer", None]
                else:
                    answer = ["answer", handler(request)]
            except EdgeError as error:
                answer = [type(error).__name__, str(error)]
            except MemoryError:
                answer = ["memory", None]
            encoded = json.dumps(answer).encode()
        sys.stdout.buffer.write(encoded + b"\n")
        sys.stdout.buffer.flush()


def _limit_memory(size: int) -> None:
    """Limit the address space, where the system can, and turn core dumps off."""
    try:
        import resource
    except ImportError:  # Windows has none
        return
    for kind, limit in ((resource.RLIMIT_AS, size), (resource.RLIMIT_CORE, 0)):
        _, hard = resource.getrlimit(kind)
        soft = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        try:
            resource.setrlimit(kind, (soft, hard))
        except (OSError, ValueError):  # macOS refuses some
            continue


@contextmanager
def _time_limit(seconds: float, nowhere: IO[str]) -> Iterator[None]:
    """End the process when the time is over, whatever it is doing."""
    import faulthandler
    import signal

    timer = getattr(signal, "setitimer", None)
    if timer is not None:
        timer(signal.ITIMER_PROF, seconds)
        seconds *= WALL_FACTOR
    faulthandler.dump_traceback_later(seconds, exit=True, file=nowhere)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        if timer is not None:
            timer(signal.ITIMER_PROF, 0)
