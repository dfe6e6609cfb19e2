"""One process that feeds seeded inputs to one reader and tells what it finds, a JSON object a line."""

from __future__ import annotations

import json
import mmap
import resource
import sys
import tempfile
import warnings
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

from . import native_readers  # noqa: F401  it registers them
from .promise import MEMORY, MemoryWatch, kept, peak_bytes
from .readers import READERS, Reader

SPARE = 3 * MEMORY
"""Address space above what the process has when it starts; libraries reserve more than they use."""


def main(name: str, first: int, count: int, state: str) -> None:
    """Feed the inputs of the seeds `first` to `first + count - 1`.

    Args:
        name: The reader's.
        first: The first seed.
        count: How many.
        state: A file of eight bytes, which always holds the seed at work.
    """
    with Path(state).open("r+b") as file, tempfile.TemporaryDirectory(dir=_memory()) as folder:
        at_work = mmap.mmap(file.fileno(), 8)
        reader = READERS[name](Path(folder))
        warm_up(reader)
        _limit_memory()
        read, memory = 0, MemoryWatch()
        for seed in range(first, first + count):
            at_work[:] = seed.to_bytes(8, "little")
            given = reader.make(Random(f"{name} {seed}"))
            is_read, fault = kept(lambda given=given: reader.read(given))  # type: ignore[misc]
            read += is_read
            fault = fault or memory.fault()
            if fault is not None:
                print(json.dumps({"seed": seed, **vars(fault)}), flush=True)
        print(json.dumps({"read": read, "peak_mib": peak_bytes() >> 20}), flush=True)


def warm_up(reader: Reader[Any]) -> None:
    """Import what the reader takes, which counts for none of its inputs."""
    for seed in range(3):
        with warnings.catch_warnings(), suppress(Exception):
            warnings.simplefilter("ignore")
            reader.read(reader.make(Random(seed)))


def _memory() -> str | None:
    """A folder in memory, where the system has one."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def _limit_memory() -> None:
    """Bound the address space, once everything is imported."""
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)  # left as it is: the next reader of a process sets its own
    resource.setrlimit(resource.RLIMIT_AS, (now + SPARE, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
