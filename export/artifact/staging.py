"""Writing a folder, or files of one, atomically: each is complete, or it is not there.

Next to a destination `model` there may be, for as long as it is written:

    .model.minimind-edge-lock   held by the process that writes
    .model.minimind-edge-new    the new folder, while it is written
    .model.minimind-edge-files  files that are complete, on their way into the folder
    .model.minimind-edge-old    the old folder, for a moment, where the system cannot exchange two folders at once

The system releases the lock when its owner ends, even by a kill. So the next owner of the lock may repair what is
there: the old folder goes back if none took its place, complete files go to their places, and the rest is removed.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from minimind_edge.runtime.artifact.paths import HIDDEN, arriving

from ..errors import BusyError
from .exchange import exchange
from .folder_copy import copy_folder, link_or_copy
from .lock import Lock, is_ours

WAIT_SECONDS = 1.0
"""The seconds to wait for a lock: one that a process holds only to repair what another one left is free by then."""

_held: ContextVar[frozenset[Path]] = ContextVar("held", default=frozenset())
"""The destinations that the running code has locked already."""

_locks: dict[Path, Lock] = {}
"""The locks of this process, by destination."""


@contextmanager
def locked(final: Path, *, wait: float = WAIT_SECONDS) -> Iterator[None]:
    """Keep every other process and thread from writing to a destination, and repair what a killed process left there.

    Code that has the lock may ask for it again.

    Args:
        final: The destination, which need not be there; its parents are made, and removed again if nothing came of it.
        wait: How many seconds to wait for another writer.

    Raises:
        BusyError: Another process writes to it.
        OSError: The folder around it cannot be written, or has no locks.
    """
    final = _absolute(final)
    if final in _held.get():
        yield
        return
    made = [parent for parent in final.parents if not parent.exists()]
    lock = Lock(_beside(final, "lock"))
    held = _held.get()
    try:
        if not lock.acquire(wait):
            raise BusyError(f"{lock.owner()} is writing to {final}: wait until it has ended, or name another place")
        _locks[final] = lock
        _held.set(held | {final})
        _mend(final)
        _mend_others(final.parent)
        yield
    finally:
        _held.set(held)
        if _locks.get(final) is lock:
            _end(final)
        lock.release()
        for parent in made:
            with contextlib.suppress(OSError):  # it is not empty
                parent.rmdir()


@contextmanager
def staged_folder(final: Path, *, keep_existing: bool = False) -> Iterator[Path]:
    """Yield a new folder next to `final`; on leaving without an error it takes `final`'s place at once.

    An error removes the new folder and leaves what was at `final` untouched. Where the process is killed, the next one
    that writes here or next to it removes the new folder.

    Args:
        final: Where the folder is to end up; its parents are made.
        keep_existing: Start from the files that are at `final` (hard links where possible); symbolic links stay links,
            so that what they lead to does not become a part of the folder.

    Raises:
        BusyError: Another process writes to `final`.
        OSError: The disk is full, read-only or gone.
    """
    final = _absolute(final)
    with locked(final):
        stage = _new_folder(final)
        if keep_existing and final.is_dir():
            copy_folder(final, stage, link_or_copy, leave_out=lambda name: HIDDEN in name)
        yield stage
        _sync(stage)
        _replace(stage, final)


@contextmanager
def staged_files(final: Path, *, wait: float = WAIT_SECONDS) -> Iterator[Path]:
    """Yield a new folder whose files, on leaving without an error, go into the folder of `final`, each in one step.

    `final` itself goes last: until then, a reader finds the new one by `runtime.artifact.paths.arriving`. Killed
    between two of them, the next process that writes here puts the rest in place.

    Args:
        final: The file whose name the lock has; others may come with it, as the one that describes it.
        wait: How many seconds to wait for another writer.

    Raises:
        BusyError: Another process writes to `final`.
        OSError: The disk is full, read-only or gone.
    """
    final = _absolute(final)
    with locked(final, wait=wait):
        stage = _new_folder(final)
        yield stage
        _sync(stage)
        stage.rename(arriving(final).parent)
        _move_files(final)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield an empty folder among the system's temporary ones, which is removed on leaving.

    Where the process is killed, the next one that makes such a folder removes it.

    Raises:
        OSError: The disk is full, read-only or gone.
    """
    final = _absolute(Path(tempfile.gettempdir())) / f"minimind-edge-{secrets.token_hex(8)}"
    with locked(final):
        yield _new_folder(final, mode=0o700)


def abandon() -> None:
    """Remove what this process has not finished, for a command that ends by a signal.

    Its main thread may still be computing, or a second signal may have interrupted what it did after the first.
    """
    for final in list(_locks):
        _end(final)


def _end(final: Path) -> None:
    """Remove the files that have not become a part of the destination, and release its lock."""
    lock = _locks.get(final)
    if lock is not None:
        _mend(final)
        lock.release()
        if _locks.get(final) is lock:
            del _locks[final]


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100 - a link stays a link, and `..` has no name to put a lock next to


def _new_folder(final: Path, mode: int = 0o777) -> Path:
    folder = _beside(final, "new")
    _remove(folder)
    folder.mkdir(mode)
    return folder


def _beside(final: Path, kind: str) -> Path:
    return final.with_name(f".{final.name}{HIDDEN}{kind}")


def _mend(final: Path) -> None:
    """Finish or undo an interrupted write at a destination whose lock is held; another user's files stay."""
    new, old, files = _beside(final, "new"), _beside(final, "old"), arriving(final).parent
    if is_ours(old) and not os.path.lexists(final):
        old.rename(final)
    if is_ours(files):
        with contextlib.suppress(OSError):
            _move_files(final)
    for path in (new, files, old):
        if is_ours(path):
            _remove(path)


def _mend_others(folder: Path) -> None:
    """Repair what killed processes left at other destinations of a folder."""
    for path in folder.glob(f".*{HIDDEN}lock"):
        final = folder / path.name.removeprefix(".").removesuffix(f"{HIDDEN}lock")
        lock = Lock(path)
        with contextlib.suppress(OSError):
            if is_ours(path) and final not in _locks and lock.acquire():
                try:
                    _mend(final)
                finally:
                    lock.release()


def _replace(stage: Path, final: Path) -> None:
    """Put `stage` in the place of `final`; the old folder is removed only after the new one is in place."""
    if not os.path.lexists(final):
        stage.rename(final)
    elif not exchange(stage, final):
        old = _beside(final, "old")
        final.rename(old)
        stage.rename(final)


def _move_files(final: Path) -> None:
    """Put the files that are complete in their places, `final` last."""
    folder = arriving(final).parent
    for path in sorted(folder.iterdir(), key=lambda path: (path.name == final.name, path.name)):
        path.replace(final.with_name(path.name))
    folder.rmdir()


def _remove(path: Path) -> None:
    """Remove a folder, a file or a link as far as that is possible."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def _sync(folder: Path) -> None:
    """Flush the files to the disk before they are renamed into place, so that a full disk is noticed here."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
