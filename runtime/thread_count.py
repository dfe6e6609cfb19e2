"""The number of CPU threads with which a model decodes fastest, measured once for a machine and a model, and kept."""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter, sleep

import msgspec
import numpy as np

from .artifact.folder import Artifact
from .artifact.json_file import Count, read_json
from .errors import EdgeError
from .load import load_session
from .ort.environment import CUDA, cpu_name, import_onnxruntime, physical_cores, usable_cores
from .ort.native import native_library
from .tensorrt import PLAN_SUFFIX

GAIN = 1.03
"""How many times faster a larger number of threads must be to be chosen: fewer leave cores to others."""

LOSS = 1.15
"""How many times slower than the best a number of threads is after which no larger one is tried."""

BURSTS, STEPS, WARM_STEPS = 3, 12, 6
"""The bursts of a measurement, the steps of each, and those before it: about 50 ms each for a model of 26M."""

PAUSE_S = 0.05
"""Seconds between bursts, so that a short disturbance spoils one of them only."""

PROMPT_TOKENS = 16
"""The positions in the cache when decoding begins."""

FILE = "threads.json"

Tell = Callable[[str], None]
"""Takes a line about what is being measured."""


class _Kept(msgspec.Struct):
    """The content of the file: the number of threads by a machine and a model."""

    threads: dict[str, Count] = {}


def best_threads(
    artifact: str | os.PathLike[str],
    precision: str | None = None,
    *,
    device: str = "auto",
    rows: int = 1,
    most: int | None = None,
    tell: Tell | None = None,
) -> int | None:
    """The number of threads that decodes fastest.

    Measured by loading the graph with 1, 2, 4, ... threads and decoding a few tokens, in a second or two, and kept in
    the user's cache folder. A graph of the same size is of the same architecture and precision, so it takes as many.

    Args:
        artifact: An artifact folder, or an `.onnx` graph or a `.plan` inside or outside of one.
        precision: Precision of the graph, as in `Engine.load`.
        device: The device that it is going to run on.
        rows: Rows that are decoded at once.
        most: Most threads; None for the physical cores.
        tell: Called before anything is measured; None where only a kept number is wanted.

    Returns:
        The number; None where it is not known and `tell` is None, where a CPU's threads do not matter, or where the
        graph does not run, whose own loading says why.

    Raises:
        ArtifactError: The artifact lacks the graph, or is broken.
    """
    graph = Artifact.open(artifact, precision).graph
    most = most or physical_cores() or usable_cores()
    if most == 1 or graph.suffix == PLAN_SUFFIX or not _runs_on_cpu(device):
        return None
    key = _key(graph, rows, most)
    if (known := _read().get(key)) is not None or tell is None:
        return known
    tell(f"measuring the best number of threads for {graph.name}, once for this machine")
    try:
        found = _fastest((count, _step_seconds(graph, rows, count)) for count in counts_up_to(most))
    except EdgeError:
        return None
    _keep(key, found)
    return found


def _runs_on_cpu(device: str) -> bool:
    """Whether a graph runs on the CPU."""
    return device == "cpu" or (device == "auto" and CUDA not in import_onnxruntime().get_available_providers())


def counts_up_to(most: int) -> list[int]:
    """The numbers of threads to try: powers of two, and the largest."""
    powers = [1 << exponent for exponent in range(most.bit_length()) if 1 << exponent < most]
    return [*powers, most]


def _fastest(measured: Iterator[tuple[int, float]]) -> int:
    """The smallest number of threads that none is clearly faster than, of pairs with the seconds of a step."""
    best, least = 1, float("inf")
    for count, seconds in measured:
        if seconds * GAIN < least:
            best, least = count, seconds
        elif seconds > least * LOSS:
            break
    return best


def _step_seconds(graph: Path, rows: int, threads: int) -> float:
    """The seconds of a decode step with so many threads: the median of the fastest burst.

    Raises:
        EdgeError: The graph does not run.
    """
    session = load_session(graph, device="cpu", threads=threads)
    session.reset(rows)
    session.prefill(np.ones((rows, PROMPT_TOKENS), np.int64))
    tokens = np.ones(rows, np.int64)
    bursts = []
    for _ in range(BURSTS):
        times = []
        for _ in range(WARM_STEPS + STEPS):
            started = perf_counter()
            session.decode(tokens)
            times.append(perf_counter() - started)
        bursts.append(statistics.median(times[WARM_STEPS:]))
        sleep(PAUSE_S)
    return min(bursts)


def _key(graph: Path, rows: int, most: int) -> str:
    """What the number depends on: the processor, its cores, the operators, the model's size, and the rows."""
    data = graph.with_name(f"{graph.name}_data")
    size = sum(path.stat().st_size for path in (graph, data) if path.is_file())
    operators = f"ONNX Runtime {import_onnxruntime().__version__}"
    if native_library() is not None:
        operators += " with native operators"
    return f"{cpu_name()}, {most} cores, {operators}, {size} bytes, {rows} rows"


def cache_file() -> Path:
    """The file with the kept numbers: in `$XDG_CACHE_HOME`, or else in the user's `.cache` or `AppData/Local`."""
    if folder := os.environ.get("XDG_CACHE_HOME"):
        base = Path(folder)
    else:
        local = os.environ.get("LOCALAPPDATA") if os.name == "nt" else None
        base = Path(local) if local else Path("~/.cache").expanduser()
    return base / "minimind-edge" / FILE


def _read() -> dict[str, int]:
    """The kept numbers, none where the file is missing or broken."""
    try:
        return dict(read_json(cache_file(), _Kept).threads)
    except (EdgeError, RuntimeError):  # a RuntimeError where the user has no home
        return {}


def _keep(key: str, threads: int) -> None:
    """Add a number to the file, where it can be written."""
    try:
        path = cache_file()
        path.parent.mkdir(parents=True, exist_ok=True)
        content = msgspec.json.format(msgspec.json.encode(_Kept({**_read(), key: threads})))
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
            part = Path(folder, path.name)
            part.write_bytes(content)
            part.replace(path)
    except (OSError, RuntimeError):
        return
