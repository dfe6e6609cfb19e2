"""`minimind-serve` as a process of its own, from its address on."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sysconfig
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

SCRIPTS = Path(sysconfig.get_path("scripts"))
ADDRESS = re.compile(r"^serving .* at (http://\S+)/ ")
SECONDS = 60.0
"""The most seconds for anything to happen."""


class ServedCommand:
    """The command, started; it serves when the constructor returns.

    Args:
        words: The command's arguments; a free port is added.
        log: Where stdout goes; what is piped is kept in `logged`.
        program: The program and its first arguments.
        environment: Variables in addition to this process's own.

    Attributes:
        url: The server's address, without a slash at its end.
        told: The lines of stderr so far.
        process: The process.
    """

    def __init__(
        self,
        *words: object,
        log: Any = subprocess.PIPE,
        program: Sequence[str] = (str(SCRIPTS / "minimind-serve"),),
        **environment: str,
    ) -> None:
        self.told: list[str] = []
        self.logged: list[str] = []
        self.process = subprocess.Popen(
            [*program, *map(str, words), "--port", "0"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        )
        streams = ((self.process.stdout, self.logged), (self.process.stderr, self.told))
        self._readers = [
            threading.Thread(target=self._read, args=pair, daemon=True) for pair in streams if pair[0] is not None
        ]
        for reader in self._readers:
            reader.start()
        self.url = ""
        wait_until(self._is_serving, lambda: "\n".join(self.told))

    @staticmethod
    def _read(stream: Any, lines: list[str]) -> None:
        with stream:
            lines.extend(iter(lambda: stream.readline().rstrip("\n"), ""))

    def _is_serving(self) -> bool:
        found = next(filter(None, map(ADDRESS.match, list(self.told))), None)
        self.url = found[1] if found else ""
        assert found or self.process.poll() is None, self.told
        return bool(found)

    def client(self, **options: Any) -> httpx.Client:
        return httpx.Client(
            base_url=self.url, timeout=SECONDS, verify=False, **options
        )  # plain HTTP needs no certificates

    def ask(self, question: str, **fields: Any) -> httpx.Response:
        """Ask one question of a chat, greedily."""
        with self.client() as client:
            return client.post("/v1/chat/completions", json=chat(question, **fields))

    def figures(self) -> dict[str, float]:
        """The metrics by name and labels."""
        with self.client() as client:
            lines = client.get("/metrics").text.splitlines()
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}

    def running(self) -> float:
        """The number of answers that have a slot."""
        return self.figures()["llamacpp:requests_processing"]

    def workers(self) -> list[int]:
        """The process ids of the workers."""
        children = map(int, Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split())
        return [pid for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    def memory(self) -> int:
        """The bytes of memory that the command and its workers have in use."""
        statuses = (Path(f"/proc/{pid}/status").read_text() for pid in (self.process.pid, *self.workers()))
        return sum(int(status.partition("VmRSS:")[2].split()[0]) for status in statuses) * 1024

    def lines(self) -> list[dict[str, Any]]:
        """The access log so far."""
        return [json.loads(line) for line in list(self.logged)]

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, and wait for the exit code."""
        self.process.send_signal(number)
        code = self.process.wait(SECONDS)
        for reader in self._readers:
            reader.join(SECONDS)
        return code

    def __enter__(self) -> ServedCommand:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def chat(question: str, **fields: Any) -> dict[str, Any]:
    """The body of a greedy chat request."""
    return {"messages": [{"role": "user", "content": question}], "temperature": 0, "max_tokens": 24, **fields}


def wait_until(condition: Any, told: Any = lambda: "", seconds: float = SECONDS) -> None:
    """Wait for something to happen."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, told()
        time.sleep(0.02)
