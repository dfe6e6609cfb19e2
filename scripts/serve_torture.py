"""Load `minimind-serve` with ten times what it can do, and with clients, workers and disks that fail.

    PYTHONPATH=tests/support python scripts/serve_torture.py --minutes 1

Each trial prints a line of figures, and a line for each thing that went wrong. `overload` lasts `--minutes`; with 60,
it is a soak. Without an artifact, the bundled checkpoint is exported.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NamedTuple

from random_requests import random_request
from served_command import ServedCommand, chat, wait_until

SLOTS, QUEUE = 4, 8
CLIENTS = 10 * SLOTS
PATIENCE_S = 3
STORY = "Tell me a story about a fox."
ENDLESS = {"temperature": 1.0, "ignore_eos": True, "stream": True, "max_tokens": 6000}

MOST_GROWTH = 1.05
"""The most memory at the end, as a share of that after a fifth of the time."""

REFUSED, BROKEN = "refused", "broken"
"""The outcomes of a request without an answer, not even a first byte, and of one whose answer did not come whole."""


class Outcome(NamedTuple):
    """What became of a request: its HTTP status, or `REFUSED` or `BROKEN`; and the body."""

    status: int | str
    body: bytes = b""


class Client:
    """Sends requests, each over a connection of its own, and counts what becomes of them."""

    def __init__(self, command: ServedCommand) -> None:
        self._port = int(command.url.rpartition(":")[2])
        self.outcomes: Counter[int | str] = Counter()

    async def ask(self, body: bytes | dict[str, Any], path: str = "/v1/chat/completions") -> Outcome:
        """Send a request, and read the whole answer."""
        outcome = await self._ask(body if isinstance(body, bytes) else json.dumps(body).encode(), path)
        self.outcomes[outcome.status] += 1
        return outcome

    async def _ask(self, body: bytes, path: str) -> Outcome:
        try:
            reader, writer = await self.send(body, path)
        except OSError:
            return Outcome(REFUSED)
        received = b""
        with contextlib.suppress(OSError):
            while part := await reader.read(65536):
                received += part
        writer.close()
        if not received:
            return Outcome(REFUSED)
        head, _, content = received.partition(b"\r\n\r\n")
        return Outcome(int(head.split()[1]), content) if is_whole(head, content) else Outcome(BROKEN)

    async def send(self, body: bytes, path: str, **options: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Send a request; the connection, from which nothing has been read."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, **options)
        writer.write(head_of(path, len(body)) + body)
        return reader, writer


def head_of(path: str, length: int) -> bytes:
    """The head of a request."""
    lines = (f"POST {path} HTTP/1.1", "Host: localhost", "Connection: close", "Content-Type: application/json")
    return "\r\n".join((*lines, f"Content-Length: {length}", "", "")).encode()


def is_whole(head: bytes, content: bytes) -> bool:
    """Whether an answer has come to its end."""
    if b"transfer-encoding: chunked" in head.lower():
        return content.endswith(b"\r\n0\r\n\r\n")
    announced = head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]
    return len(content) == int(announced or 0)


class Trial:
    """A trial: what it found, and what it expected to find."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.problems: list[str] = []

    def expect(self, holds: bool, what: str) -> None:
        """Note a problem unless something holds."""
        if not holds:
            self.problems.append(what)

    def tell(self, figures: str) -> None:
        """Print the figures, and the problems."""
        print(f"{self.name:10} {figures}", flush=True)
        for problem in self.problems:
            print(f"{self.name:10} PROBLEM: {problem}", flush=True)


async def overload(trial: Trial, artifact: Path, draw: random.Random, options: argparse.Namespace) -> str:
    """Ten times as many clients as slots; some go away in the middle."""
    with ServedCommand(artifact, "--slots", SLOTS, "--queue", QUEUE, "--threads", 1, log=os.open(os.devnull, 1)) as it:
        client, memory, began = Client(it), [], time.monotonic()
        ends = began + 60 * options.minutes
        gone = 0

        async def go_on() -> None:
            nonlocal gone
            while time.monotonic() < ends:
                fields = {"max_tokens": draw.randrange(1, 100), "stream": draw.random() < 0.5}
                if draw.random() < 0.05:
                    gone += 1
                    await vanish(client, draw)
                    continue
                outcome = await client.ask(chat(f"{draw.random()} {STORY}", **fields))
                if outcome.status == 429:
                    await asyncio.sleep(draw.uniform(0.02, 0.2))
                elif options.wave_s:
                    await asyncio.sleep(options.wave_s - (time.monotonic() - began) % options.wave_s)

        async def watch() -> None:
            while time.monotonic() < ends:
                memory.append(it.memory())
                await asyncio.sleep(0.5)

        await asyncio.gather(watch(), *(go_on() for _ in range(CLIENTS)))
        await settled(trial, it)
        counts = client.outcomes
        trial.expect(set(counts) <= {200, 429}, f"other outcomes than 200 and 429: {dict(counts)}")
        trial.expect(counts[200] > 0, "no request was answered")
        fifth, tenth = max(1, len(memory) // 5), max(1, len(memory) // 10)
        course = ", ".join(f"{sum(part) / len(part) / 1e6:.1f}" for part in _parts(memory, tenth))
        early, late = (sum(part) / len(part) for part in (memory[fifth : 2 * fifth] or memory, memory[-fifth:]))
        trial.expect(late <= MOST_GROWTH * early, f"memory grew from {early / 1e6:.0f} to {late / 1e6:.0f} MB")
        trial.expect(it.end() == 0, "exit code")
        return (
            f"{sum(counts.values())} requests of {CLIENTS} clients: {counts[200]} answered, {counts[429]} refused; "
            f"{gone} clients vanished; memory {early / 1e6:.1f} MB, at the end {late / 1e6:.1f} MB; "
            f"by tenths of the time {course}"
        )


def _parts(figures: list[int], size: int) -> list[list[int]]:
    return [figures[start : start + size] for start in range(0, len(figures), size)][:10]


async def vanish(client: Client, draw: random.Random) -> None:
    """Send a request, or a part of one, and go away at a random moment."""
    body = json.dumps(chat(STORY, **ENDLESS | {"max_tokens": 500})).encode()
    with contextlib.suppress(OSError):
        reader, writer = await client.send(body if draw.random() < 0.8 else body[:20], "/v1/chat/completions")
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(reader.read(draw.randrange(1, 5000)), draw.uniform(0, 0.3))
        if draw.random() < 0.5:
            writer.transport.abort()
        writer.close()


async def settled(trial: Trial, command: ServedCommand) -> None:
    """Expect that no request has a slot any more, a few seconds from now."""
    try:
        await asyncio.to_thread(wait_until, lambda: command.running() == 0, seconds=PATIENCE_S + 15)
    except AssertionError:
        trial.expect(False, f"{command.running():.0f} requests still have a slot")


async def vanishing(trial: Trial, artifact: Path, draw: random.Random, options: argparse.Namespace) -> str:
    """Clients that go away at random moments."""
    with ServedCommand(artifact, "--slots", SLOTS, "--threads", 1, "--timeout", PATIENCE_S) as it:
        client, number = Client(it), 300
        for _ in range(0, number, 20):
            await asyncio.gather(*(vanish(client, draw) for _ in range(20)))
        await settled(trial, it)
        trial.expect((await client.ask(chat(STORY))).status == 200, "no answer afterwards")
        return f"{number} clients went away; no slot stayed taken"


async def slow_readers(trial: Trial, artifact: Path, draw: random.Random, options: argparse.Namespace) -> str:
    """Clients that do not read, of long answers with many log probabilities; the others are answered meanwhile."""
    with ServedCommand(artifact, "--slots", SLOTS, "--threads", 1, "--timeout", PATIENCE_S) as it:
        client, kept = Client(it), []
        body = json.dumps(chat(STORY, **ENDLESS, logprobs=True, top_logprobs=20)).encode()
        for _ in range(SLOTS):
            connection = socket.create_connection(("127.0.0.1", int(it.url.rpartition(":")[2])))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.sendall(head_of("/v1/chat/completions", len(body)) + body)
            kept.append(connection)
        began = time.monotonic()
        trial.expect((await client.ask(chat(STORY))).status == 200, "a client next to them was not answered")
        waited = time.monotonic() - began
        await settled(trial, it)
        for connection in kept:
            connection.close()
        return f"{SLOTS} clients that took every slot and did not read; the next one was answered after {waited:.1f} s"


async def half_sent(trial: Trial, artifact: Path, draw: random.Random, options: argparse.Namespace) -> str:
    """Requests of which only a part is sent."""
    with ServedCommand(artifact, "--slots", SLOTS, "--threads", 1, "--timeout", PATIENCE_S) as it:
        client, number = Client(it), 300
        body = json.dumps(chat(STORY)).encode()
        whole = head_of("/v1/chat/completions", len(body)) + body

        async def half() -> float:
            reader, writer = await asyncio.open_connection("127.0.0.1", int(it.url.rpartition(":")[2]))
            writer.write(whole[: draw.randrange(len(whole))])
            began = time.monotonic()
            with contextlib.suppress(OSError):
                await reader.read()
            writer.close()
            return time.monotonic() - began

        halves = asyncio.gather(*(half() for _ in range(number)))
        for _ in range(20):
            trial.expect((await client.ask(chat(STORY))).status == 200, "a client next to them was not answered")
        seconds = await halves
        trial.expect(max(seconds) < PATIENCE_S + 10, f"one was kept for {max(seconds):.0f} s")
        return f"{number} half-sent requests were closed after at most {max(seconds):.1f} s; 20 whole ones answered"


async def killed_workers(trial: Trial, artifact: Path, draw: random.Random, options: argparse.Namespace) -> str:
    """Workers that are killed while they answer."""
    kills = 5
    with ServedCommand(artifact, "--workers", 2, "--slots", SLOTS, "--threads", 1, "--timeout", PATIENCE_S) as it:
        wait_until(lambda: len(it.workers()) == 2)
        client, goes_on = Client(it), True

        async def go_on() -> None:
            while goes_on:
                await client.ask(chat(f"{draw.random()} {STORY}", max_tokens=draw.randrange(1, 60), stream=True))

        async def kill() -> None:
            nonlocal goes_on
            for _ in range(kills):
                await asyncio.sleep(2)
                await asyncio.to_thread(wait_until, lambda: len(it.workers()) == 2)
                os.kill(draw.choice(it.workers()), signal.SIGKILL)
            goes_on = False

        await asyncio.gather(kill(), *(go_on() for _ in range(SLOTS)))
        counts = client.outcomes
        lost = counts[BROKEN] + counts[REFUSED]
        trial.expect(set(counts) <= {200, BROKEN, REFUSED}, f"outcomes: {dict(counts)}")
        trial.expect(lost <= kills * SLOTS, f"{lost} requests were lost by {kills} kills")
        trial.expect((await client.ask(chat(STORY))).status == 200, "no answer afterwards")
        trial.expect(it.end() == 0, "exit code")
        return f"{kills} kills: {counts[200]} answered, {lost} cut off, those that the killed ones had begun"


async def full_disk(trial: Trial, artifact: Path, draw: random.Random, options: argparse.Namespace) -> str:
    """A log on a full disk."""
    with ServedCommand(artifact, "--threads", 1, log=os.open("/dev/full", os.O_WRONLY)) as it:
        client = Client(it)
        for _ in range(50):
            await client.ask(chat(STORY, max_tokens=4))
        trial.expect(client.outcomes == {200: 50}, f"outcomes: {dict(client.outcomes)}")
        trial.expect(it.end() == 0, "exit code")
        return f"{client.outcomes[200]} of 50 answered"


async def terminated(trial: Trial, artifact: Path, draw: random.Random, options: argparse.Namespace) -> str:
    """SIGTERM under load."""
    total: Counter[int | str] = Counter()
    for workers in (1, 2):
        words = ("--slots", SLOTS, "--threads", 1, "--workers", workers, "--timeout", 30)
        with ServedCommand(artifact, *words) as it:
            client = Client(it)
            ends = time.monotonic() + 4

            async def go_on(client: Client = client, it: ServedCommand = it) -> None:
                while it.process.poll() is None:
                    outcome = await client.ask(chat(f"{draw.random()} {STORY}", max_tokens=200, stream=True))
                    if outcome.status in (503, REFUSED):
                        await asyncio.sleep(0.05)

            async def end(it: ServedCommand = it, ends: float = ends) -> int:
                await asyncio.sleep(max(0.0, ends - time.monotonic()))
                return await asyncio.to_thread(it.end)

            code, *_ = await asyncio.gather(end(), *(go_on() for _ in range(2 * SLOTS)))
            trial.expect(code == 0, f"exit code {code}")
            counts = client.outcomes
            trial.expect(set(counts) <= {200, 503, REFUSED}, f"outcomes with {workers} workers: {dict(counts)}")
            total += counts
    return (
        f"{total[200]} answered whole, {total[503]} told to come later, {total[REFUSED]} too late, {total[BROKEN]} cut"
    )


async def fuzzed(trial: Trial, artifact: Path, draw: random.Random, options: argparse.Namespace) -> str:
    """Random bodies."""
    with ServedCommand(artifact, "--slots", SLOTS, "--threads", 1, log=os.open(os.devnull, 1)) as it:
        client, failures = Client(it), []

        async def go_on(number: int) -> None:
            for _ in range(number):
                path, body = random_request(draw)
                outcome = await client.ask(body, path)
                if outcome.status == BROKEN or (isinstance(outcome.status, int) and outcome.status >= 500):
                    failures.append(f"{outcome.status} {outcome.body[:200]!r} for {path} {body[:300]!r}")

        await asyncio.gather(*(go_on(options.requests // SLOTS) for _ in range(SLOTS)))
        for failure in failures[:10]:
            trial.expect(False, failure)
        await settled(trial, it)
        counts = client.outcomes
        return f"{sum(counts.values())} random requests: " + ", ".join(f"{n} x {s}" for s, n in sorted(counts.items()))


TRIALS: dict[str, Callable[..., Coroutine[Any, Any, str]]] = {
    "overload": overload,
    "vanishing": vanishing,
    "slow": slow_readers,
    "half": half_sent,
    "kills": killed_workers,
    "disk": full_disk,
    "sigterm": terminated,
    "fuzz": fuzzed,
}


def main() -> int:
    """Run the trials that were named; 1 where one of them found a problem."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("trials", nargs="*", help=f"{', '.join(TRIALS)}; all of them unless named")
    parser.add_argument("--artifact", type=Path, help="(default: an export of the bundled checkpoint)")
    parser.add_argument("--minutes", type=float, default=1.0, help="of overload (default: 1)")
    parser.add_argument(
        "--wave-s",
        type=float,
        default=0.0,
        metavar="S",
        help="a client of overload whose request was answered waits for the next multiple of S seconds, as all do, "
        "so that the server rests between the waves (default: it goes on at once)",
    )
    parser.add_argument("--requests", type=int, default=10_000, help="random ones (default: 10,000)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        artifact = options.artifact or exported(Path(folder) / "demo")
        trials = [Trial(name) for name in options.trials or TRIALS]
        for trial in trials:
            trial.tell(asyncio.run(TRIALS[trial.name](trial, artifact, random.Random(options.seed), options)))
    return int(any(trial.problems for trial in trials))


def exported(folder: Path) -> Path:
    """The bundled checkpoint as an artifact."""
    from minimind_edge.export.pipeline import export_onnx
    from minimind_edge.export.request import ExportRequest

    return export_onnx(ExportRequest(output=folder, verify=False)).folder


if __name__ == "__main__":
    sys.exit(main())
