"""`python -m fuzzing`: as many seeded inputs as are asked for, spread over the readers, and what was found."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from . import native_readers  # noqa: F401  it registers them
from .readers import READERS

CHUNK = 10_000
"""Inputs of one process."""

STUCK = 300.0
"""Seconds without a new input, imports at the start included, after which native code hangs: no signal gets through."""


@dataclass
class Tally:
    """The counts and faults of one reader's inputs."""

    given: int = 0
    read: int = 0
    peak_mib: int = 0
    faults: dict[tuple[str, str], list[tuple[int, str]]] = field(default_factory=dict)

    def add(self, kind: str, place: str, seed: int, text: str) -> None:
        """Note a fault under its kind and place."""
        self.faults.setdefault((kind, place), []).append((seed, text))


def main() -> int:
    """Run the long form; 1 if anything was found."""
    options = _options()
    names = options.readers.split(",") if options.readers else list(READERS)
    total = sum(READERS[name].weight for name in names)
    tallies = {name: Tally() for name in names}
    end = time.monotonic() + options.minutes * 60
    shares = {name: max(1, options.examples * READERS[name].weight // total) for name in names}
    chunks = [(first, name) for name, count in shares.items() for first in range(0, count, CHUNK)]
    with ThreadPoolExecutor(options.jobs) as pool:
        for first, name in sorted(chunks, key=lambda chunk: (chunk[0], READERS[chunk[1]].weight)):
            pool.submit(_run, name, options.seed + first, min(CHUNK, shares[name] - first), tallies[name], end)
    return _report(tallies, options.seed)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="fuzzing", description=__doc__)
    parser.add_argument("--examples", type=int, default=100_000, help="inputs, all readers together")
    parser.add_argument("--seed", type=int, default=0, help="the first seed of each reader")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--minutes", type=float, default=600, help="time after which no more input is given")
    parser.add_argument("--readers", help=f"some of: {', '.join(READERS)}")
    return parser.parse_args()


def run(name: str, first: int, count: int) -> Tally:
    """Feed a reader the inputs of some seeds, in processes that are started again when one breaks."""
    tally = Tally()
    _run(name, first, count, tally, float("inf"))
    return tally


def _run(name: str, first: int, count: int, tally: Tally, end: float) -> None:
    last = first + count
    while first < last and time.monotonic() < end:
        first = _process(name, first, last, tally, end)


def _process(name: str, first: int, last: int, tally: Tally, end: float) -> int:
    """Run one process until it ends or breaks; the seed to go on with."""
    with tempfile.NamedTemporaryFile() as state, tempfile.TemporaryFile("w+") as output:
        state.write(first.to_bytes(8, "little"))
        state.flush()
        command = [sys.executable, "-m", "fuzzing.worker", name, str(first), str(last - first), state.name]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        started = subprocess.Popen(command, stdout=output, stderr=subprocess.DEVNULL, env=environment)
        why = _wait(started, Path(state.name), end)
        seed = int.from_bytes(Path(state.name).read_bytes(), "little")
        output.seek(0)
        finished = _collect(map(json.loads, output), tally)
    if finished:
        tally.given += last - first
        return last
    if why == "time":
        tally.given += seed - first
        return last
    tally.given += seed + 1 - first
    tally.add(why, f"exit code {started.returncode}", seed, "the process broke")
    return seed + 1


def _wait(process: subprocess.Popen[bytes], state: Path, end: float) -> str:
    """Wait for the process; why it was ended, or `crash`, which is nothing where it had finished."""
    before, since = b"", time.monotonic()
    while process.poll() is None:
        time.sleep(0.2)
        now = state.read_bytes()
        if now != before:
            before, since = now, time.monotonic()
        late = time.monotonic() > end
        if late or time.monotonic() - since > STUCK:
            process.send_signal(signal.SIGKILL)
            process.wait()
            return "time" if late else "native hang"
    return "crash"


def _collect(lines: Iterator[dict[str, object]], tally: Tally) -> bool:
    """Take over what a process has told; whether it got to its end."""
    for line in lines:
        if "read" in line:
            tally.read += int(str(line["read"]))
            tally.peak_mib = max(tally.peak_mib, int(str(line["peak_mib"])))
            return True
        tally.add(str(line["kind"]), str(line["place"]), int(str(line["seed"])), str(line["text"]))
    return False


def _report(tallies: dict[str, Tally], seed: int) -> int:
    print(f"{'reader':<24} {'inputs':>9} {'read':>9} {'peak MiB':>9} {'faults':>7}   seeds from {seed}")
    for name, tally in tallies.items():
        faults = sum(map(len, tally.faults.values()))
        print(f"{name:<24} {tally.given:>9,} {tally.read:>9,} {tally.peak_mib:>9,} {faults:>7,}")
    print(f"{'all':<24} {sum(tally.given for tally in tallies.values()):>9,}")
    for name, tally in tallies.items():
        for (kind, place), found in tally.faults.items():
            print(f"FAULT {name}: {kind} at {place}, {len(found)} times, first seed {found[0][0]}: {found[0][1][:300]}")
    return 1 if any(tally.faults for tally in tallies.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
