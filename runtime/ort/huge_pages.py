"""Huge pages for what a session holds in memory, on Linux: a step reads all weights, and small pages make it wait.

ONNX Runtime's copies of weights lie in pages of 4 KiB, more than a processor remembers the addresses of. Linux joins
them to pages of 2 MiB where it is asked to: at once since 6.1 (madvise(2), MADV_COLLAPSE), before that in the course of
minutes. It takes about a millisecond for each MiB. This therefore happens in another thread, and not for a model that
is used for one short answer.
"""

from __future__ import annotations

import ctypes
import mmap
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

DELAY_S = 0.5
"""The time from the end of loading to the beginning of the work, in seconds."""

PAGE_SIZE = Path("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size")
MAPS, PAGEMAP = Path("/proc/self/maps"), Path("/proc/self/pagemap")

ANONYMOUS = re.compile(rb"^([0-9a-f]+)-([0-9a-f]+) rw-p [0-9a-f]+ [0-9a-f:]+ 0 *(?:\[heap\])?$", re.MULTILINE)
"""A line of /proc/self/maps about memory of this process alone that no file is mapped to; see proc_pid_maps(5)."""

PRESENT = np.uint64(1 << 63)
"""The bit of a page in /proc/self/pagemap that says that it is in memory; see proc_pid_pagemap(5)."""

MADV_HUGEPAGE, MADV_COLLAPSE = 14, 25

Range: TypeAlias = "tuple[int, int]"
"""The first address of a part of memory, and the first one after it."""


def anonymous_memory() -> list[Range]:
    """The parts of this process's memory that no file is mapped to, ascending; none where the system does not tell."""
    try:
        lines = MAPS.read_bytes()
    except OSError:
        return []
    return [(int(match[1], 16), int(match[2], 16)) for match in ANONYMOUS.finditer(lines)]


def use_huge_pages_later(before: Sequence[Range]) -> None:
    """Put what has been allocated meanwhile into huge pages, after `DELAY_S`, in another thread.

    Args:
        before: What `anonymous_memory` gave before.
    """
    new = list(added(before, anonymous_memory()))
    if new:
        timer = threading.Timer(DELAY_S, use_huge_pages, [new])
        timer.daemon = True
        timer.start()


def use_huge_pages(ranges: Iterable[Range]) -> None:
    """Put memory into huge pages, as far as all of a huge page is in memory; no contents change, and no size.

    Memory that is freed meanwhile, and what the system refuses, is left out.
    """
    try:
        size = int(PAGE_SIZE.read_text())
        for start, end in ranges:
            for first, last in filled(start, end, size):
                advise(first, last - first)
    except (OSError, ValueError):  # no Linux, or without this
        return


def added(before: Sequence[Range], after: Iterable[Range]) -> Iterator[Range]:
    """The parts of `after` that are not in `before`, both ascending."""
    for first, last in after:
        start = first
        for old_first, old_last in before:
            if old_last <= start or old_first >= last:
                continue
            if old_first > start:
                yield start, old_first
            start = old_last
        if start < last:
            yield start, last


def filled(start: int, end: int, size: int) -> Iterator[Range]:
    """The parts of memory that begin and end where huge pages do, and in which no small page is missing.

    Args:
        start: The first address.
        end: The first address after it.
        size: The size of a huge page in bytes.

    Raises:
        OSError: The system does not tell which pages are in memory.
    """
    first, last = -(-start // size) * size, end // size * size
    if first >= last:
        return
    full = present_pages(first, last).reshape((last - first) // size, -1).all(axis=1)
    edges = np.flatnonzero(np.diff(full, prepend=False, append=False))  # where runs of full ones begin and end
    for begin, stop in edges.reshape(-1, 2).tolist():
        yield first + begin * size, first + stop * size


def present_pages(start: int, end: int) -> NDArray[np.bool_]:
    """Whether each page from one address to another is in memory.

    Raises:
        OSError: The system does not tell.
    """
    page = mmap.PAGESIZE
    with PAGEMAP.open("rb", buffering=0) as pagemap:
        pagemap.seek(start // page * 8)
        entries: NDArray[np.uint64] = np.frombuffer(pagemap.read((end - start) // page * 8), np.uint64)
    if len(entries) != (end - start) // page:
        raise OSError("short read")
    present: NDArray[np.bool_] = (entries & PRESENT) != 0
    return present


def advise(start: int, size: int) -> None:
    """Ask Linux for huge pages: soon, and at once where it does that."""
    libc = ctypes.CDLL(None)
    for advice in (MADV_HUGEPAGE, MADV_COLLAPSE):
        libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), ctypes.c_int(advice))
