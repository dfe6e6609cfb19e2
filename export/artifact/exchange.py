"""Two paths exchanged at once, by the system calls that can do that."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

RENAME_EXCHANGE = 2
"""`renameat2`'s flag on Linux, from linux/fs.h."""

RENAME_SWAP = 2
"""`renamex_np`'s flag on macOS, from sys/stdio.h."""

AT_FDCWD = -100
"""Linux: paths are relative to the current folder."""


def exchange(first: Path, second: Path) -> bool:
    """Have two paths change places, with no moment at which either of them is missing.

    Args:
        first: A file or a folder.
        second: Another one, in the same file system.

    Returns:
        Whether it was done; where the system or the file system cannot do it, nothing has changed.
    """
    names = os.fsencode(first), os.fsencode(second)
    if sys.platform == "linux":
        rename = getattr(ctypes.CDLL(None), "renameat2", None)  # glibc has it since 2.28
        return rename is not None and rename(AT_FDCWD, names[0], AT_FDCWD, names[1], RENAME_EXCHANGE) == 0
    if sys.platform == "darwin":
        swap = getattr(ctypes.CDLL(None), "renamex_np", None)
        return swap is not None and swap(names[0], names[1], RENAME_SWAP) == 0
    return False
