"""A lock on a path, which the system releases when the owner's process ends, even by a kill."""

from __future__ import annotations

import os
import stat
import sys
import time
from pathlib import Path

POLL_SECONDS = 0.02
"""The pause between two tries to get a lock, in seconds."""

PID_BYTES = 20
"""The most bytes of a process id in a lock's file."""


class Lock:
    """An exclusive lock by a file of its own, which is removed with the lock; the file of a killed owner stays.

    Args:
        path: The lock's file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: int | None = None

    def acquire(self, wait: float = 0.0) -> bool:
        """Take the lock; whether that was possible within `wait` seconds.

        Raises:
            OSError: The file cannot be made, or its file system has no locks.
        """
        deadline = time.monotonic() + wait
        try:
            while not self._try():
                if time.monotonic() >= deadline:
                    return False
                time.sleep(POLL_SECONDS)
        except BaseException:  # a signal's too, which comes between any two steps
            self.release()
            _remove_free(self.path)
            raise
        return True

    def _try(self) -> bool:
        """Take the lock if nobody has it."""
        while True:
            handle = _open(self.path)
            try:
                taken = _try_lock(handle)
                if taken and _is_file_of(handle, self.path):
                    self._handle = handle
                    _write_owner(handle)
                    return True
            finally:
                if self._handle is None:
                    os.close(handle)
            if not taken:
                return False
            # the last owner has just removed the file: the path has a new one, or none

    def release(self) -> None:
        """Remove the file and release the lock; may be called more than once."""
        handle = self._handle
        if handle is None:
            return
        if sys.platform != "win32":
            _unlink(self.path)
        self._handle = None
        os.close(handle)
        if sys.platform == "win32":  # an open file cannot be removed there; one that another process has opened stays
            _unlink(self.path)

    def owner(self) -> str:
        """The owner of the lock, for a message: `process 123`, or `another process`."""
        try:
            pid = self.path.read_bytes()[:PID_BYTES].decode("ascii")
        except (OSError, UnicodeDecodeError):  # on Windows a locked file cannot be read
            pid = ""
        return f"process {pid}" if pid.isdigit() else "another process"


def is_ours(path: Path) -> bool:
    """Whether a path exists, without following links, and belongs to this user."""
    try:
        status = path.lstat()
    except OSError:
        return False
    return sys.platform == "win32" or status.st_uid == os.geteuid()


def _open(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    while True:
        try:
            return os.open(path, flags, 0o666)
        except FileNotFoundError:  # its folder was new, and the process that made it has removed it
            path.parent.mkdir(parents=True, exist_ok=True)


def _remove_free(path: Path) -> None:
    """Remove a lock's file that nobody holds."""
    try:
        handle = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    except OSError:
        return
    try:
        if _try_lock(handle) and _is_file_of(handle, path):
            _unlink(path)
    except OSError:
        return
    finally:
        os.close(handle)


def _is_file_of(handle: int, path: Path) -> bool:
    """Whether the open file is still the one at the path."""
    try:
        found, opened = path.lstat(), os.fstat(handle)
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and os.path.samestat(found, opened)


def _write_owner(handle: int) -> None:
    """Write the process id; a full disk is no error here, as the next file that is written reports it."""
    try:
        os.ftruncate(handle, 0)
        os.write(handle, str(os.getpid()).encode())
    except OSError:
        return


def _unlink(path: Path) -> None:
    try:
        path.unlink()
    except OSError:
        return


if sys.platform == "win32":
    import msvcrt

    def _try_lock(handle: int) -> bool:
        try:
            os.lseek(handle, 0, os.SEEK_SET)
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True

else:
    import fcntl

    def _try_lock(handle: int) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
