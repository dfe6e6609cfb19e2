"""What every reader promises of every file: it is read, or refused by one of our errors, soon and in little memory."""

from __future__ import annotations

import resource
import signal
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from minimind_edge.minimind.errors import MiniMindError
from minimind_edge.runtime.errors import EdgeError

SECONDS = 5.0
"""Time for one input: of computing, and twelve times that on the clock, as a busy machine keeps a process waiting."""

MEMORY = 1 << 30
LONGEST = 800
CODES = (3, 4)


class Hang(BaseException):
    """The time is over; no reader catches it."""


@dataclass(frozen=True)
class Fault:
    """A promise that was broken; `place` is the same for the same fault."""

    kind: str
    place: str
    text: str


def kept(read: Callable[[], object]) -> tuple[bool, Fault | None]:
    """Whether a file was read, and the fault if a promise was broken; that of memory is told by `MemoryWatch`.

    Args:
        read: Reads one file.
    """
    try:
        with warnings.catch_warnings(), time_limit():
            warnings.simplefilter("error")
            read()
    except (EdgeError, MiniMindError) as error:
        return False, fault_of(error)
    except Hang as error:
        return False, Fault("hang", _place(error), f"more than {SECONDS:g} s")
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return False, Fault(type(error).__name__, _place(error), str(error)[:300])
    return True, None


class MemoryWatch:
    """Tells of memory beyond the promise, looking now and then: asking the system takes longer than many an input."""

    EVERY = 32

    def __init__(self) -> None:
        self._calls = 0
        self._peak = peak_bytes()

    def fault(self) -> Fault | None:
        """The fault if one of the last inputs took too much."""
        self._calls += 1
        if self._calls % self.EVERY:
            return None
        before, self._peak = self._peak, peak_bytes()
        more = self._peak - before
        return Fault("memory", f"the last {self.EVERY} inputs", f"{more >> 20} MiB more") if more > MEMORY else None


def fault_of(error: EdgeError | MiniMindError) -> Fault | None:
    """The promise that an error of ours breaks; None where it keeps them all."""
    message = str(error)
    if error.exit_code not in CODES:
        return Fault(f"exit code {error.exit_code}", _place(error), message[:300])
    if not message or not message.isprintable() or len(message) > LONGEST:
        return Fault("message", _place(error), f"{len(message)} characters: {message[:300]!r}")
    return None


def _place(error: BaseException) -> str:
    """The innermost line of our own code."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "fuzzing" not in frame.filename and _is_ours(frame.filename)]
    frame = (own or frames)[-1]
    return f"{'/'.join(Path(frame.filename).parts[-2:])}:{frame.lineno}"


def _is_ours(file: str) -> bool:
    return any(part in {"runtime", "minimind", "export", "cli"} for part in Path(file).parts[-4:-1])


@contextmanager
def time_limit(seconds: float = SECONDS) -> Iterator[None]:
    """Raise `Hang` in what takes longer."""

    computed, started = time.process_time(), time.monotonic()

    def over(number: int, frame: FrameType | None) -> None:
        if time.process_time() - computed > seconds * 0.95 or time.monotonic() - started > 12 * seconds:
            raise Hang

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)  # again, where a reader has caught even this
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def peak_bytes() -> int:
    """The most memory that this process has had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
