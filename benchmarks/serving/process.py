"""A server's process: started, waited for until it answers, and ended."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
from contextlib import suppress
from time import monotonic, sleep

from ..peers.failure import Unmeasurable, last_line
from ..peers.preparation import Prepared
from ..peers.worker import worker_environment
from .contenders import Server, Site

PATIENCE_S = 180
"""The most seconds until a server answers."""

END_S = 10
"""The most seconds for a server to end after SIGTERM."""


def free_port() -> int:
    """A port on 127.0.0.1 that nothing uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ServerProcess:
    """A running server; use it in a `with` statement, or close it.

    Args:
        server: The server.
        prepared: Its model.
        clients: The number of clients that it has to serve.
        threads: The number of threads that compute.

    Raises:
        Unmeasurable: The server could not be started.
    """

    def __init__(self, server: Server, prepared: Prepared, clients: int, threads: int) -> None:
        self.server = server
        self.port = free_port()
        self._log = prepared.log.with_name(f"{prepared.log.stem}-server.log")
        self._log.parent.mkdir(parents=True, exist_ok=True)
        command = server.command(prepared, Site(self.port, clients, threads))
        with self._log.open("w", encoding="utf-8") as output:
            streams = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": subprocess.STDOUT}
            environment = worker_environment(threads)
            try:
                self._process = subprocess.Popen(command, env=environment, start_new_session=True, **streams)
            except OSError as error:
                raise Unmeasurable(f"did not start: {error}") from error

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    def wait_ready(self, patience_s: float = PATIENCE_S) -> None:
        """Wait until the server says that it is well.

        Raises:
            Unmeasurable: It ended, or took longer than `patience_s` seconds.
        """
        deadline = monotonic() + patience_s
        while not is_well(self.port):
            if self._process.poll() is not None:
                raise Unmeasurable(last_line(self._log) or f"ended with status {self._process.returncode}")
            if monotonic() > deadline:
                raise Unmeasurable(f"did not answer in {patience_s:.0f} s")
            sleep(0.1)

    def close(self) -> None:
        """End the process, and those that it has started."""
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(END_S)
        with suppress(ProcessLookupError):  # where all have ended
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def is_well(port: int) -> bool:
    """Whether a server's `/health` answers with 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
