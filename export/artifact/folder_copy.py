"""A folder copied file by file, where the first file that cannot be written is the error."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path


def copy_file(source: Path, target: Path) -> None:
    """Copy a file's content."""
    shutil.copyfile(source, target)


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name; copy it where the file system has no such links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def copy_folder(
    source: Path,
    target: Path,
    copy: Callable[[Path, Path], None] = copy_file,
    *,
    leave_out: Callable[[str], bool] = lambda name: False,
) -> None:
    """Copy what is in a folder into another one; symbolic links stay links.

    `shutil.copytree` goes on after an error and raises the list of all of them.

    Args:
        source: The folder.
        target: The other folder; it is made if need be.
        copy: Copies one file.
        leave_out: Whether a name is not copied.

    Raises:
        OSError: The first thing that cannot be read or written.
    """
    target.mkdir(exist_ok=True)
    for path in sorted(source.iterdir()):
        place = target / path.name
        if leave_out(path.name):
            continue
        if path.is_symlink():
            place.symlink_to(path.readlink())
        elif path.is_dir():
            copy_folder(path, place, copy, leave_out=leave_out)
        else:
            copy(path, place)
