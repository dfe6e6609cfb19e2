"""Writing a folder atomically: it is complete, or it is not there."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def staged_folder(final: Path, *, keep_existing: bool = False) -> Iterator[Path]:
    """Yield a new folder next to `final`; on leaving without an error it takes `final`'s place by renaming.

    An error removes the new folder and leaves what was at `final` untouched. A crash between the two renames leaves the
    old folder whole under a hidden name next to the final one.

    Args:
        final: The final path of the folder; its parents are created.
        keep_existing: Start from the files that are at `final` (hard links where possible); symbolic links stay links,
            so that the files that they lead to do not become a part of the folder.

    Raises:
        OSError: The disk is full, read-only or gone.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    stage = Path(tempfile.mkdtemp(prefix=f".{final.name}.", suffix=".partial", dir=final.parent))
    try:
        stage.chmod(0o777 & ~_umask())
        if keep_existing and final.is_dir():
            shutil.copytree(final, stage, symlinks=True, copy_function=_link_or_copy, dirs_exist_ok=True)
        yield stage
        _sync(stage)
        _replace(stage, final)
    except BaseException:
        shutil.rmtree(stage, ignore_errors=True)
        raise


def _replace(stage: Path, final: Path) -> None:
    """Rename `stage` to `final`; the old folder is removed only after the new one is in place."""
    if not final.exists():
        stage.rename(final)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{final.name}.", suffix=".old", dir=final.parent)) / final.name
    final.rename(old)
    try:
        stage.rename(final)
    except OSError:
        old.rename(final)
        raise
    finally:
        shutil.rmtree(old.parent, ignore_errors=True)


def _link_or_copy(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target


def _sync(folder: Path) -> None:
    """Flush the files to the disk before they are renamed into place, so that a full disk is noticed here."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def _umask() -> int:
    """The process's file mode mask; it can only be read by setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
