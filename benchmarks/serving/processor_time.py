"""The processor time of a server: of all its processes, and of the threads that speak HTTP."""

from __future__ import annotations

import os
from pathlib import Path

PROC = Path("/proc")


def family(pid: int) -> list[int]:
    """A process and all its descendants; the process alone where /proc does not list children."""
    found = [pid]
    for each in found:
        try:
            children = (PROC / f"{each}/task/{each}/children").read_text(encoding="ascii")
        except OSError:
            continue
        found += [int(child) for child in children.split()]
    return found


def process_seconds(pid: int) -> float | None:
    """The seconds that all threads of a process have run, in steps of a clock tick; None where /proc does not tell."""
    try:
        fields = (PROC / f"{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # utime and stime, proc_pid_stat(5)


def main_thread_seconds(pid: int) -> float | None:
    """The seconds that the main thread of a process has run, to the nanosecond; None where /proc does not tell."""
    try:
        return int((PROC / f"{pid}/task/{pid}/schedstat").read_text(encoding="ascii").split()[0]) / 1e9
    except (OSError, IndexError):
        return None
