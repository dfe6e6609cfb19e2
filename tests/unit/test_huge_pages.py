"""Huge pages: which memory is put into them, and that nothing of it changes; Linux's own account is the reference."""

from __future__ import annotations

import ctypes
import mmap
import re
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minimind_edge.runtime.ort import huge_pages
from minimind_edge.runtime.ort.huge_pages import added, anonymous_memory, filled, use_huge_pages, use_huge_pages_later

SIZE = 2 << 20
"""A huge page of x86-64; tests that need one of another size are skipped."""

needs_linux = pytest.mark.skipif(
    not huge_pages.PAGE_SIZE.is_file() or huge_pages.PAGE_SIZE.read_text().strip() != str(SIZE),
    reason="no Linux with huge pages of 2 MiB",
)


class Memory:
    """Three huge pages' worth of memory that nothing has touched, and the addresses of the three."""

    def __init__(self) -> None:
        self.mapping = mmap.mmap(-1, 4 * SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.array = np.frombuffer(self.mapping, np.uint8)
        self.offset = -self.array.ctypes.data % SIZE
        self.start = self.array.ctypes.data + self.offset
        self.end = self.start + 3 * SIZE

    def page(self, index: int) -> np.ndarray:
        return self.array[self.offset + index * SIZE :][:SIZE]

    def kilobytes(self, name: str) -> int:
        """A figure of /proc/self/smaps, of the mappings that lie in this memory."""
        total, inside = 0, False
        for line in Path("/proc/self/smaps").read_text().splitlines():
            if match := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
                inside = int(match[1], 16) < self.end and int(match[2], 16) > self.start
            elif inside and line.startswith(f"{name}:"):
                total += int(line.split()[1])
        return total


def wait_for_timers() -> None:
    """Wait for what loading has left to other threads, in this test or in one before it."""
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.join()


@pytest.fixture
def memory():
    wait_for_timers()
    made = Memory()
    libc = ctypes.CDLL(None)
    libc.madvise(ctypes.c_void_p(made.start), ctypes.c_size_t(3 * SIZE), ctypes.c_int(15))  # MADV_NOHUGEPAGE for now
    return made


RANGES = st.lists(st.integers(0, 60), unique=True).map(sorted).map(lambda n: list(zip(n[::2], n[1::2], strict=False)))


@given(before=RANGES, after=RANGES)
def test_added_is_what_is_in_the_second_and_not_in_the_first(before, after):
    def numbers(ranges):
        return {number for first, last in ranges for number in range(first, last)}

    found = list(added(before, after))
    assert numbers(found) == numbers(after) - numbers(before)
    assert all(first < last for first, last in found)
    assert found == sorted(found)


@needs_linux
def test_anonymous_memory_is_what_no_file_is_mapped_to(memory, tmp_path):
    (tmp_path / "file").write_bytes(bytes(SIZE))
    with (tmp_path / "file").open("r+b") as file:
        mapped = np.frombuffer(mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE), np.uint8)
    found = anonymous_memory()
    assert found == sorted(found)
    assert any(first <= memory.start and memory.end <= last for first, last in found)
    assert not any(first <= mapped.ctypes.data < last for first, last in found)


@needs_linux
def test_only_whole_huge_pages_that_are_in_memory_are_filled(memory):
    memory.page(0)[:] = 1
    memory.page(1)[: SIZE - 4096] = 2
    assert list(filled(memory.start, memory.end, SIZE)) == [(memory.start, memory.start + SIZE)]
    assert list(filled(memory.start + 4096, memory.end, SIZE)) == []
    memory.page(1)[-1] = 2
    assert list(filled(memory.start, memory.end, SIZE)) == [(memory.start, memory.start + 2 * SIZE)]
    memory.page(2)[:] = 3
    memory.page(1)[:] = 2
    assert list(filled(memory.start - 8192, memory.end + 8192, SIZE)) == [(memory.start, memory.end)]


@needs_linux
def test_huge_pages_keep_the_contents_and_take_no_more_memory(memory):
    rng = np.random.default_rng(0)
    kept = [rng.integers(0, 256, SIZE, np.uint8) for _ in range(2)]
    memory.page(0)[:] = kept[0]
    memory.page(2)[: SIZE // 2] = kept[1][: SIZE // 2]
    before, huge_before = memory.kilobytes("Rss"), memory.kilobytes("AnonHugePages")  # a neighbour's, too
    use_huge_pages([(memory.start, memory.end)])
    assert memory.kilobytes("Rss") == before
    np.testing.assert_array_equal(memory.page(0), kept[0])
    np.testing.assert_array_equal(memory.page(2)[: SIZE // 2], kept[1][: SIZE // 2])
    huge = memory.kilobytes("AnonHugePages") - huge_before
    if not huge:
        pytest.skip("this Linux makes no huge pages at once")
    assert huge == SIZE >> 10


@needs_linux
def test_memory_that_is_gone_is_left_out():
    memory = Memory()
    memory.array[:] = 1
    place = [(memory.start, memory.end)]
    del memory.array
    memory.mapping.close()
    use_huge_pages(place)


@needs_linux
def test_only_what_came_after_is_put_into_huge_pages(memory, monkeypatch):
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(huge_pages, "DELAY_S", 0.0)
    monkeypatch.setattr(huge_pages, "advise", lambda start, size: asked.append((start, start + size)))
    memory.array[:] = 1
    before = anonymous_memory()
    later = Memory()
    later.array[:] = 1
    use_huge_pages_later(before)
    wait_for_timers()
    assert any(first <= later.start and later.end <= last for first, last in asked)
    assert not any(first < memory.end and memory.start < last for first, last in asked)


def test_where_the_system_tells_nothing_nothing_happens(monkeypatch, tmp_path):
    for name in ("PAGE_SIZE", "MAPS", "PAGEMAP"):
        monkeypatch.setattr(huge_pages, name, tmp_path / "none")
    assert anonymous_memory() == []
    use_huge_pages_later([])
    use_huge_pages([(0, 1 << 30)])
