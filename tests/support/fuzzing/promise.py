"""What every reader promises of every file: it is read, or refused by one of our errors, soon and in little memory."""

from __future__ import annotations

import resource
import signal
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
    """Whether a file was read, and the fault if a promise was broken.

    Args:
        read: Reads one file.
    """
    before = peak_bytes()
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
    if peak_bytes() - before > MEMORY:
        return True, Fault("memory", "", f"{peak_bytes() - before >> 20} MiB more")
    return True, None


def fault_of(error: EdgeError | MiniMindError) -> Fault | None:
    """What is wrong with an error of ours."""
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

    def over(number: int, frame: FrameType | None) -> None:
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
