"""The load: clients in a closed loop, each with one request at a time, on one connection each.

    python -m benchmarks.serving.load '{"port": 8000, "pid": 4711, "clients": 8, ...}'

The fields are those of `Load`. It prints one JSON object with the statistics of a window that begins after a warm-up.
It is a process of its own, so that no client's work counts as a server's, and one thread over raw sockets, so that it
takes little from the cores that the server runs on.
"""

from __future__ import annotations

import json
import random
import selectors
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from .answers import AnswerError, AnswerReader
from .processor_time import family, main_thread_seconds, process_seconds
from .summary import OUTPUT, Answer, summarize

PROCESSOR = "processor_us_per_token"
MAIN_THREAD = "main_thread_us_per_token"
CLIENT_CORES = "client_cores"

RECEIVE_BYTES = 1 << 18

PATIENCE_S = 60
"""The most seconds for a connection, and for a server to take a request."""


@dataclass(frozen=True)
class Load:
    """The load on a server.

    Attributes:
        port: The port on 127.0.0.1.
        pid: The server's process.
        clients: The number of clients.
        seed: The seed of the requests: the n-th request of a run is the same for every server.
        warm_s: Seconds before the window, in which the clients' requests drift apart.
        measure_s: Seconds of the window.
        prompt_tokens: The shortest and the longest prompt.
        new_tokens: The shortest and the longest answer; no answer ends earlier.
        token_ids: The first token id of a prompt, and the end of their range.
        fields: Fields that a request has in addition.
        reconnects: Whether each request has a connection of its own, made before its time begins.
    """

    port: int
    pid: int
    clients: int
    seed: int = 0
    warm_s: float = 2.0
    measure_s: float = 6.0
    prompt_tokens: tuple[int, int] = (32, 256)
    new_tokens: tuple[int, int] = (64, 256)
    token_ids: tuple[int, int] = (300, 6400)
    fields: dict[str, Any] = field(default_factory=dict)
    reconnects: bool = False

    def requests(self) -> Iterator[tuple[bytes, int]]:
        """All requests in their order: the bytes to send, and the number of tokens that the answer must have."""
        source = random.Random(self.seed)
        while True:
            prompt = [source.randrange(*self.token_ids) for _ in range(source.randint(*self.prompt_tokens))]
            count = source.randint(*self.new_tokens)
            content = {
                "prompt": prompt,
                "max_tokens": count,
                "temperature": 0,
                "ignore_eos": True,
                "stream": True,
                "stream_options": {"include_usage": True},
                **self.fields,
            }
            body = json.dumps(content).encode()
            head = (
                f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\n\r\n"
            )
            yield head.encode() + body, count


class Client:
    """One client: a connection, and the request that is running on it."""

    def __init__(self, load: Load, requests: Iterator[tuple[bytes, int]], answers: list[Answer]) -> None:
        self._port, self._reconnects = load.port, load.reconnects
        self._requests, self._answers = requests, answers
        self._connect()

    def _connect(self) -> None:
        self.socket = socket.create_connection(("127.0.0.1", self._port), timeout=PATIENCE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self) -> None:
        """Send the next request."""
        request, self._count = next(self._requests)
        self._reader = AnswerReader()
        self._answer = Answer(time.perf_counter())
        self._answers.append(self._answer)
        self.socket.sendall(request)

    def read(self) -> bool:
        """Take what has arrived, and note when; return whether the answer is complete.

        Raises:
            AnswerError: The server did not give the answer that was asked for.
        """
        received = self.socket.recv(RECEIVE_BYTES)
        now = time.perf_counter()
        for event in self._reader.feed(received):
            if event.text:
                self._answer.times.append(now)
            if event.completion_tokens is not None:
                self._answer.completion_tokens = event.completion_tokens
        if self._reader.is_done and self._answer.completion_tokens != self._count:
            raise AnswerError(
                f"an answer of {self._answer.completion_tokens} tokens, where {self._count} were asked for"
            )
        return self._reader.is_done

    def renew(self) -> bool:
        """Connect again where the server closes the connection after an answer; return whether it was necessary."""
        if self._reader.keeps_open and not self._reconnects:
            return False
        self.socket.close()
        self._connect()
        return True


@dataclass
class Clock:
    """The processor time that a server and this process had used at one moment."""

    moment: float
    server: float | None
    main_threads: float | None
    client: float

    @classmethod
    def read(cls, pids: list[int]) -> Clock:
        """Read all clocks."""
        server, main_threads = (
            sum_or_none([read(pid) for pid in pids]) for read in (process_seconds, main_thread_seconds)
        )
        return cls(time.perf_counter(), server, main_threads, time.process_time())


def sum_or_none(values: list[float | None]) -> float | None:
    """The sum; None where a value is missing."""
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def run(load: Load) -> dict[str, float]:
    """Put the load on the server, and summarize the window.

    Raises:
        AnswerError: An answer failed.
        OSError: The server does not take connections.
        ValueError: The window is too short.
    """
    answers: list[Answer] = []
    requests, pids = load.requests(), family(load.pid)
    with selectors.DefaultSelector() as selector:
        for _ in range(load.clients):
            client = Client(load, requests, answers)
            selector.register(client.socket, selectors.EVENT_READ, client)
            client.ask()
        serve_until(selector, time.perf_counter() + load.warm_s)
        begin = Clock.read(pids)
        serve_until(selector, begin.moment + load.measure_s)
        end = Clock.read(pids)
        for key in list(selector.get_map().values()):
            key.fileobj.close()
    summary = summarize(answers, begin.moment, end.moment)
    return summary | processor_times(begin, end, tokens=summary[OUTPUT] * (end.moment - begin.moment))


def serve_until(selector: selectors.BaseSelector, deadline: float) -> None:
    """Read what servers send, and ask again after each answer, until a time."""
    while (left := deadline - time.perf_counter()) > 0:
        for key, _ in selector.select(left):
            client: Client = key.data
            if client.read():
                if client.renew():
                    selector.unregister(key.fileobj)
                    selector.register(client.socket, selectors.EVENT_READ, client)
                client.ask()


def processor_times(begin: Clock, end: Clock, tokens: float) -> dict[str, float]:
    """The processor time of the server in microseconds per token, and the cores that this process took."""
    found = {CLIENT_CORES: (end.client - begin.client) / (end.moment - begin.moment)}
    if begin.server is not None and end.server is not None:
        found[PROCESSOR] = 1e6 * (end.server - begin.server) / tokens
    if begin.main_threads is not None and end.main_threads is not None:
        found[MAIN_THREAD] = 1e6 * (end.main_threads - begin.main_threads) / tokens
    return found


def main() -> None:
    """Run the load that the argument describes."""
    try:
        result: dict[str, Any] = run(Load(**json.loads(sys.argv[1])))
    except (AnswerError, OSError, ValueError) as error:
        result = {"error": f"{error}" or type(error).__name__}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
