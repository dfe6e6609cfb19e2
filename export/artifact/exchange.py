"""Exchanging two paths in one step, by system calls."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

RENAME_EXCHANGE = 2
"""The flag of `renameat2` on Linux for an exchange, from linux/fs.h."""

RENAME_SWAP = 2
"""The flag of `renamex_np` on macOS for an exchange, from sys/stdio.h."""

AT_FDCWD = -100
"""The folder handle of Linux by which paths are relative to the current folder."""


def exchange(first: Path, second: Path) -> bool:
    """Exchange two paths, so that neither of them is missing at any moment.

    Args:
        first: A file or a folder.
        second: Another one, in the same file system.

    Returns:
        Whether they were exchanged; where the system or the file system cannot do that, nothing has changed.
    """
    names = os.fsencode(first), os.fsencode(second)
    if sys.platform == "linux":
        rename = getattr(ctypes.CDLL(None), "renameat2", None)  # glibc has it since 2.28
        return rename is not None and rename(AT_FDCWD, names[0], AT_FDCWD, names[1], RENAME_EXCHANGE) == 0
    if sys.platform == "darwin":
        swap = getattr(ctypes.CDLL(None), "renamex_np", None)
        return swap is not None and swap(names[0], names[1], RENAME_SWAP) == 0
    return False
