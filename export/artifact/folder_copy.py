"""Copying a folder file by file, up to the first file that cannot be written."""

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
    """Copy the content of a folder into another one; symbolic links stay links.

    `shutil.copytree`, unlike this function, goes on after an error and raises a list of all errors.

    Args:
        source: The folder.
        target: The other folder; it is created where it is missing.
        copy: The function that copies one file.
        leave_out: Whether a name is not copied.

    Raises:
        OSError: A file cannot be read or written.
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
