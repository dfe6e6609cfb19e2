"""A worker: a process that holds one model of one peer, and measures on request."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from threading import Timer
from time import monotonic
from typing import Any

from .failure import Unmeasurable, last_line

PATIENCE_S = 180
"""The most seconds for one answer."""


def worker_environment(threads: int) -> dict[str, str]:
    """The environment of a worker: bounded threads, none for numpy's BLAS, no network, no telemetry of ONNX Runtime."""
    bounds = {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": "1"}
    return os.environ | bounds | {"HF_HUB_OFFLINE": "1", "ORT_DISABLE_TELEMETRY": "1"}


class Worker:
    """A running worker; use it in a `with` statement, or close it.

    Args:
        python: The interpreter of the peer's environment.
        script: The worker's program.
        folder: The folder of the model.
        threads: The number of CPU threads.
        log: The file for the worker's stderr.

    Attributes:
        load_s: The seconds that loading the model took; None until `wait_loaded`.

    Raises:
        Unmeasurable: The worker could not be started.
    """

    def __init__(self, python: Path, script: Path, folder: Path, *, threads: int, log: Path) -> None:
        self.load_s: float | None = None
        self._log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        command = [str(python), str(script), "serve", str(folder), "--threads", str(threads)]
        environment = worker_environment(threads)
        with log.open("w", encoding="utf-8") as errors:
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": errors}
            try:
                self._process = subprocess.Popen(command, text=True, env=environment, **pipes)
            except OSError as error:
                raise Unmeasurable(f"did not start: {error}") from error

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def wait_loaded(self) -> None:
        """Wait until the model is loaded.

        Raises:
            Unmeasurable: The model cannot be loaded.
        """
        if self.load_s is None:
            self.load_s = self._read(PATIENCE_S)["load_s"]

    def ask(self, do: str, *, patience_s: float = PATIENCE_S, **arguments: Any) -> dict[str, Any]:
        """Send the worker one command, and wait for the answer.

        Raises:
            Unmeasurable: The worker crashed, or took longer than `patience_s` seconds.
        """
        self.wait_loaded()
        try:
            self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self._process.stdin.flush()
        except OSError:
            pass  # the worker has ended; reading its answer finds the reason
        return self._read(patience_s)

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()

    def _read(self, patience_s: float) -> dict[str, Any]:
        alarm, started = Timer(patience_s, self._process.kill), monotonic()
        alarm.start()
        line = self._process.stdout.readline()
        alarm.cancel()
        if line:
            return json.loads(line)
        if monotonic() - started >= patience_s:
            raise Unmeasurable(f"gave no answer in {patience_s:.0f} s")
        status = self._process.wait()
        raise Unmeasurable(last_line(self._log) or f"ended with status {status}")
