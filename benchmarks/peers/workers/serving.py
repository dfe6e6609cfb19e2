"""The command loop of all workers: a model is loaded once, then measured at each command on stdin.

A worker runs in its peer's environment, so this file needs the standard library and numpy alone. Called as

    WORKER.py serve FOLDER --threads 2

it prints one JSON object a line: `{"load_s": ...}` when the model is loaded, then one answer to each command.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

CONTEXT = 1280
"""The length of every peer's cache in tokens: room for a generation of 128 tokens after a prompt of 1,024."""

PROMPTS = itertools.count()
"""The numbers of the prompts, so that no two are alike."""

IN_HASTE = "BENCH_IN_HASTE"
"""The environment variable of a conversion of random weights, which may save effort because only speed is measured."""


class Timing(NamedTuple):
    """The seconds of one generation up to its first token, and of all tokens after it."""

    first_token_s: float
    rest_s: float


class Runner(Protocol):
    """A peer that has loaded a model."""

    def generate(self, prompt: list[int], new_tokens: int) -> Timing:
        """Generate greedily after a prompt, from an empty cache, never stopping early."""
        ...

    def logits(self, tokens: list[int]) -> Any:
        """The logits after each token of a row, [S, V] float32."""
        ...


def main(load: Callable[[Path, int], Runner], convert: Callable[[Path, Path, str], None] | None = None) -> None:
    """Run the command line of a worker.

    Args:
        load: A function that makes a runner from a folder that `convert` wrote, for a number of threads.
        convert: A function that makes that folder from a Hugging Face folder and the name of a build.
    """
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    serving = commands.add_parser("serve")
    serving.add_argument("folder", type=Path)
    serving.add_argument("--threads", type=int, default=2)
    if convert is not None:
        converting = commands.add_parser("convert")
        converting.add_argument("source", type=Path)
        converting.add_argument("folder", type=Path)
        converting.add_argument("build")
    arguments = parser.parse_args()
    if arguments.command == "convert" and convert is not None:
        convert(arguments.source, arguments.folder, arguments.build)
    else:
        serve(load, arguments.folder, arguments.threads)


def serve(load: Callable[[Path, int], Runner], folder: Path, threads: int) -> None:
    """Load a model and answer commands until stdin ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # the peer's own output must not get between the answers
    started = time.perf_counter()
    gc.disable()  # as programs that count their start do: what is imported stays
    runner = load(folder, threads)
    gc.freeze()
    gc.enable()
    print(json.dumps({"load_s": time.perf_counter() - started}), file=answers)
    for line in sys.stdin:
        command = json.loads(line)
        print(json.dumps(ANSWERS[command.pop("do")](runner, **command)), file=answers)


def answer_generate(runner: Runner, prompt_tokens: int, new_tokens: int) -> dict[str, float]:
    """Measure one generation; each prompt begins differently, since some peers keep the cache of the last one."""
    start = next(PROMPTS)
    prompt = [37 * (start + index) % 2000 + 3 for index in range(prompt_tokens)]
    return runner.generate(prompt, new_tokens)._asdict()


def answer_logits(runner: Runner, passages: str, out: str) -> dict[str, int]:
    """Write logits, [N, V] float32, for the tokens of passages that count.

    Args:
        runner: The peer.
        passages: A JSON file: for each passage its tokens, and the index of the first whose prediction counts.
        out: The .npy file to write.
    """
    import numpy as np

    counted = []
    for tokens, first in json.loads(Path(passages).read_text(encoding="utf-8")):
        counted += list(runner.logits(tokens)[first - 1 : len(tokens) - 1])
    np.save(out, np.asarray(counted, np.float32))
    return {"tokens": len(counted)}


def answer_memory(runner: Runner) -> dict[str, int]:
    """The peak memory of this process, in bytes."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return {"peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}
    # Not ru_maxrss, which begins with the memory of the parent at the fork.
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return {"peak_rss_bytes": int(peak.split()[1]) * 1024}


ANSWERS: dict[str, Callable[..., dict[str, Any]]] = {
    "generate": answer_generate,
    "logits": answer_logits,
    "memory": answer_memory,
}
