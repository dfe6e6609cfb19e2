"""Measuring in rounds over all servers, so that a slow minute of the machine slows all of them alike."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from time import sleep
from typing import Any

from ..peers.failure import Unmeasurable
from ..peers.measure import turned
from ..peers.preparation import PROJECT, Prepared
from .contenders import Server
from .load import MAIN_THREAD, Load
from .process import ServerProcess

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """The size of the benchmark.

    Attributes:
        rounds: The number of measurements of each server at each load.
        clients: The numbers of clients.
        threads: The number of threads that compute in each server.
        warm_s: Seconds of load before the measurement.
        measure_s: Seconds of a measurement.
        pause_s: Seconds of rest before each server, in which the threads of the one before fall asleep.
    """

    rounds: int = 5
    clients: tuple[int, ...] = (1, 8, 32)
    threads: int = 2
    warm_s: float = 3.0
    measure_s: float = 5.0
    pause_s: float = 0.3


@dataclass
class Row:
    """The measurements of one server with one number of clients.

    Attributes:
        server: The server.
        clients: The number of clients.
        values: For each quantity, one value for each round.
        missing: The reason why nothing, or nothing more, was measured; empty where all was.
    """

    server: Server
    clients: int
    values: dict[str, list[float]] = field(default_factory=dict)
    missing: str = ""

    def add(self, result: dict[str, float]) -> None:
        """Record one round."""
        for quantity, value in result.items():
            if quantity != MAIN_THREAD or self.server.speaks_in_main_thread:
                self.values.setdefault(quantity, []).append(value)


def measure(entries: Sequence[tuple[Server, Prepared | Unmeasurable]], plan: Plan, progress: Progress) -> list[Row]:
    """Measure all servers of one model at all loads.

    Args:
        entries: The servers, each with its model or the reason why there is none.
        plan: The size of the benchmark.
        progress: Called with the name of each stage.
    """
    rows = []
    for clients in plan.clients:
        with ExitStack() as stack:
            started = [start(server, prepared, clients, plan, stack) for server, prepared in entries]
            rows += [row for row, _ in started]
            for number in range(plan.rounds):
                progress(f"{clients} clients, round {number + 1} of {plan.rounds}")
                for row, process in turned(started, number):
                    if process is not None and not row.missing:
                        measure_one(row, process, plan, number)
    return rows


def start(
    server: Server, prepared: Prepared | Unmeasurable, clients: int, plan: Plan, stack: ExitStack
) -> tuple[Row, ServerProcess | None]:
    """Start a server, which `stack` ends; without a process where that fails."""
    row = Row(server, clients)
    try:
        if isinstance(prepared, Unmeasurable):
            raise prepared
        process = stack.enter_context(ServerProcess(server, prepared, clients, plan.threads))
        process.wait_ready()
    except Unmeasurable as reason:
        row.missing = str(reason)
        return row, None
    return row, process


def measure_one(row: Row, process: ServerProcess, plan: Plan, number: int) -> None:
    """Measure one round of one server; a failure is the row's reason."""
    sleep(plan.pause_s)
    load = Load(
        process.port,
        process.pid,
        row.clients,
        seed=number,
        warm_s=plan.warm_s,
        measure_s=plan.measure_s,
        fields=dict(row.server.fields),
        reconnects=row.server.closes_connections,
    )
    try:
        row.add(put_load(load))
    except Unmeasurable as reason:
        row.missing = str(reason)


def put_load(load: Load) -> dict[str, float]:
    """Run the load in a process of its own.

    Raises:
        Unmeasurable: An answer failed.
    """
    command = [sys.executable, "-m", "benchmarks.serving.load", json.dumps(asdict(load))]
    patience_s = load.warm_s + load.measure_s + 60
    streams = {"capture_output": True, "text": True}
    try:
        ended = subprocess.run(command, cwd=PROJECT, check=False, timeout=patience_s, **streams)
    except (OSError, subprocess.SubprocessError) as error:
        raise Unmeasurable(f"the load failed: {error}") from error
    if ended.returncode:
        raise Unmeasurable(f"the load failed: {ended.stderr.strip().rpartition(chr(10))[2] or ended.returncode}")
    result: dict[str, Any] = json.loads(ended.stdout)
    if "error" in result:
        raise Unmeasurable(result["error"])
    return result
