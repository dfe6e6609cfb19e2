"""Several workers that share one port: each connection goes to the worker that has the fewest."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import selectors
import signal
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.context import SpawnContext, SpawnProcess
from types import FrameType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minimind_edge.runtime.errors import MissingError
from minimind_edge.runtime.ort.environment import physical_cores

from .access_log import writing_logs
from .metrics import GAUGES, OFFSETS, ROW
from .run import DrainingServer, Hooks
from .serving import Tell, greeting, prepare
from .settings import ServeSettings

INTERRUPTED = 130
"""The exit code after Ctrl-C."""

READY, TAKEN, LOST, LEAVING, ALIVE = b"r", b"k", b"x", b"l", b"a"
"""What a worker says to the supervisor: it accepts connections; it has taken one; one has ended; it takes no more; its
event loop and its models go on."""

TAKE, END = b"t", b"e"
"""What the supervisor says: take this connection; finish what runs, and end."""

STEADY_S = 10.0
"""Seconds after which a worker that dies is replaced at once; after an earlier death there is a growing pause."""

SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
PAUSE_S = 0.05
"""Seconds after which a connection is accepted that could not be accepted now."""

SILENT_S = 60.0
"""Seconds without a sign of life after which a worker hangs, and is killed; a busy one gives it every second."""

LONGEST_TURN_S = 1.0
"""Most seconds of silence that one turn of the supervisor counts: it may have been suspended, and its workers too."""

KILL_AFTER_S = 10.0
"""Seconds after the drain's own limit until a worker is killed."""

Work = Callable[[ServeSettings, socket.socket, Any, int], None]
"""The function that a worker's process runs: `run_worker`, with the caller's way of ending a process with an error."""


class Worker:
    """A worker's process, as the supervisor knows it.

    Attributes:
        index: Its place among the workers, which its successor takes over.
        channel: The supervisor's end of the channel to it.
        connections: Number of its open connections.
        given: Connections that it has been given and not taken yet, oldest first.
        is_ready: Whether it accepts connections.
        silent_s: Seconds since its last sign of life; a worker that still loads is not expected to give any.
    """

    def __init__(self, context: SpawnContext, work: Work, settings: ServeSettings, rows: Any, index: int) -> None:
        self.index = index
        self.channel, theirs = socket.socketpair()
        self.connections = 0
        self.given: deque[socket.socket] = deque()
        self.is_ready = False
        self.silent_s = 0.0
        self.began = time.monotonic()
        self.process: SpawnProcess = context.Process(target=work, args=(settings, theirs, rows, index))
        self.process.start()
        theirs.close()
        self.channel.setblocking(False)

    def give(self, connection: socket.socket) -> bool:
        """Give the worker a connection; return whether it could be given."""
        try:
            socket.send_fds(self.channel, [TAKE], [connection.fileno()])
        except OSError:
            return False
        self.connections += 1
        self.given.append(connection)
        return True

    def end(self) -> None:
        """Tell the worker to finish what runs, and to end."""
        with contextlib.suppress(OSError):
            self.channel.send(END)

    def hear(self) -> bool:
        """Read what the worker has said; return whether it still is there."""
        try:
            said = self.channel.recv(4096)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if ALIVE in said:
            self.silent_s = 0.0
        self.is_ready = (self.is_ready or READY in said) and LEAVING not in said
        self.connections -= said.count(LOST)
        for _ in range(said.count(TAKEN)):
            self.given.popleft().close()
        return bool(said)


class Supervisor:
    """Starts the workers, gives them connections, replaces those that die, and ends them all.

    Args:
        settings: What is served, and by how many workers.
        listener: The listening socket.
        work: What a worker's process runs.
        tell: Takes lines about the progress.
    """

    def __init__(self, settings: ServeSettings, listener: socket.socket, work: Work, tell: Tell) -> None:
        if not hasattr(socket, "send_fds"):
            raise MissingError("--workers needs a system whose processes can pass sockets: use one worker")
        cores = physical_cores() or os.cpu_count() or 1
        threads = settings.engine.threads or max(1, cores // settings.workers)
        self._settings = replace(settings, engine=replace(settings.engine, threads=threads))
        self._listener, self._work, self._tell = listener, work, tell
        self._context = multiprocessing.get_context("spawn")
        self._shape = settings.workers, len(settings.artifacts), ROW
        self._rows = self._context.RawArray("d", int(np.prod(self._shape)))
        self._selector = selectors.DefaultSelector()
        self._workers: dict[int, Worker] = {}
        self._due: dict[int, float] = {}
        self._pauses: dict[int, float] = {}
        self._signals: list[int] = []
        self._ends_at: float | None = None
        self._accepts = False
        self._last_exit_code = 0
        self._turned_at = time.monotonic()

    def run(self) -> int:
        """Serve until a signal ends it.

        Returns:
            The exit code: 0 after SIGTERM, 130 after Ctrl-C, that of the first worker where it could not start.
        """
        handlers = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            self._start(0)  # alone, so that a bad artifact is told about once
            while self._workers or (self._accepts and self._ends_at is None):
                self._turn()
            if self._ends_at is None:
                return max(self._last_exit_code, 1)
            return INTERRUPTED if self._signals[0] == signal.SIGINT else 0
        finally:
            self._listener.close()
            for worker in self._workers.values():
                worker.process.kill()
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        self._signals.append(number)

    def _start(self, index: int) -> None:
        _figures(self._rows, self._shape)[index, :, [OFFSETS[name].start for name in GAUGES]] = 0
        worker = self._workers[index] = Worker(self._context, self._work, self._settings, self._rows, index)
        self._selector.register(worker.channel, selectors.EVENT_READ, worker)

    def _turn(self) -> None:
        """Do what is to be done now, and wait for more for at most a tenth of a second."""
        self._obey()
        for index in [index for index, when in self._due.items() if time.monotonic() >= when]:
            del self._due[index]
            self._start(index)
        for key, _ in self._selector.select(0.1):
            if key.data is None:
                self._accept()
            elif not key.data.hear():
                self._bury(key.data)
            elif key.data.is_ready and not self._accepts:
                self._open()
        self._kill_hanging()

    def _kill_hanging(self) -> None:
        """Kill the workers without a sign of life for too long; their ends are then noticed as those of others."""
        now = time.monotonic()
        passed, self._turned_at = min(now - self._turned_at, LONGEST_TURN_S), now
        for worker in self._workers.values():
            worker.silent_s += passed if worker.is_ready else 0.0
            if worker.silent_s > SILENT_S and worker.process.is_alive():
                self._tell(f"worker {worker.index} has hung for {SILENT_S:.0f} s: it is killed")
                worker.process.kill()
                worker.silent_s = 0.0

    def _open(self) -> None:
        """The first worker is ready: accept connections, and start the others."""
        self._accepts = True
        self._selector.register(self._listener, selectors.EVENT_READ)
        for index in range(1, self._settings.workers):
            self._start(index)
        self._tell(f"{greeting(self._settings, self._listener)}, {self._settings.workers} workers")

    def _accept(self) -> None:
        """Accept one connection, unless no worker could take it now."""
        if not any(worker.is_ready for worker in self._workers.values()):
            time.sleep(PAUSE_S)
            return
        try:
            connection, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError:  # the client has gone, or there are no more files
            time.sleep(PAUSE_S)
            return
        self._give(connection)

    def _give(self, connection: socket.socket) -> None:
        """Give a connection to the worker that has the fewest; without any, it is closed."""
        ready = [worker for worker in self._workers.values() if worker.is_ready]
        if not any(worker.give(connection) for worker in sorted(ready, key=lambda worker: worker.connections)):
            connection.close()

    def _bury(self, worker: Worker) -> None:
        """Forget a worker that has ended, and plan its successor's start."""
        self._selector.unregister(worker.channel)
        worker.channel.close()
        worker.process.join()
        self._last_exit_code = worker.process.exitcode or 0
        del self._workers[worker.index]
        for connection in worker.given:  # nothing of them has been read: another worker may answer them
            self._give(connection)
        if self._ends_at is not None or not self._accepts:
            return
        steady = worker.is_ready and time.monotonic() - worker.began > STEADY_S
        pause = 0.0 if steady else min(LONGEST_PAUSE_S, max(SHORTEST_PAUSE_S, 2 * self._pauses.get(worker.index, 0.0)))
        self._pauses[worker.index] = pause
        self._due[worker.index] = time.monotonic() + pause
        self._tell(f"worker {worker.index} ended with exit code {worker.process.exitcode}: it is started again")

    def _obey(self) -> None:
        """End the workers at the first signal, kill them at a second Ctrl-C or after the time limit."""
        if self._signals and self._ends_at is None:
            self._ends_at = time.monotonic() + self._settings.timeout_s + KILL_AFTER_S
            self._due.clear()
            for worker in self._workers.values():
                worker.end()
        second = signal.SIGINT in self._signals[1:]
        if second or (self._ends_at is not None and time.monotonic() > self._ends_at):
            for worker in self._workers.values():
                worker.process.kill()


def run_worker(settings: ServeSettings, channel: socket.socket, rows: Any, index: int, tell: Tell) -> None:
    """Load the models, and serve the connections that come over the channel, until it says so or closes.

    Args:
        settings: What is served.
        channel: This worker's end of the channel.
        rows: The memory for the metrics of all workers.
        index: The index of this worker.
        tell: Takes lines about the progress.

    Raises:
        EdgeError: An artifact cannot be served.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is the supervisor's

    def say(word: bytes) -> None:
        with contextlib.suppress(OSError):
            channel.send(word)

    def listen() -> None:
        channel.setblocking(False)
        asyncio.get_running_loop().add_reader(channel, _obey, server, channel)
        say(READY)

    def leave() -> None:
        asyncio.get_running_loop().remove_reader(channel)
        say(LEAVING)

    hooks = Hooks(ready=listen, lost=lambda: say(LOST), second=lambda: say(ALIVE), leaving=leave)
    figures = _figures(rows, (settings.workers, len(settings.artifacts), ROW))
    server = prepare(settings, tell, hooks, rows=figures, worker=index)
    with writing_logs(requests=settings.access_log):
        server.run([])


def _obey(server: DrainingServer, channel: socket.socket) -> None:
    """Take one message of the supervisor; where it has gone, end as it would have said."""
    loop = asyncio.get_running_loop()
    try:
        said, sockets, _, _ = socket.recv_fds(channel, 1, 1)
    except BlockingIOError:
        return
    except OSError:
        said, sockets = b"", []
    for number in sockets:
        connection = socket.socket(fileno=number)
        connection.setblocking(False)
        with contextlib.suppress(OSError):
            channel.send(TAKEN)
        _keep(loop.create_task(_connect(server, connection)))
    if not said:
        loop.remove_reader(channel)
    if said in (END, b""):
        server.drain()


async def _connect(server: DrainingServer, connection: socket.socket) -> None:
    make_protocol: Any = server.config.http_protocol_class
    facts = {"config": server.config, "server_state": server.server_state, "app_state": server.lifespan.state}
    await asyncio.get_running_loop().connect_accepted_socket(lambda: make_protocol(**facts), connection)


_tasks: set[asyncio.Task[None]] = set()


def _keep(task: asyncio.Task[None]) -> None:
    """Keep a task until it is done; the event loop itself holds it weakly."""
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


def _figures(rows: Any, shape: tuple[int, int, int]) -> NDArray[np.float64]:
    """The shared memory as an array, `[workers, models, ROW]`."""
    return np.frombuffer(rows, np.float64).reshape(shape)
