"""Benchmark of this checkout's runtime against another revision's: prefill and decode, interleaved.

    python benchmarks/revisions.py REVISION ARTIFACT[:PRECISION] ... [--prompt-tokens 128,512] [--new-tokens 128]
                                   [--rounds 9] [--threads 2] [-o FILE]

Both revisions run in processes of their own that hold their models and wait: in each round one runs, then the other,
with the order reversed in every other round. Ratios are this checkout's speed over the other's in the same round.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("cli", "export", "minimind", "runtime")

WORKER = """
import json, sys, time
import numpy as np
from minimind_edge.runtime import Engine, SamplingParams, generate

path, precision, threads, new_tokens, *lengths = sys.argv[1:]
engine = Engine.load(path, device="cpu", threads=int(threads), precision=precision or None)
session = engine.session
print("ready", flush=True)
for line in sys.stdin:
    time.sleep(0.2)  # threads of the other process spin for a moment after its last run
    for _ in generate(session, [[3, 4, 5, 6] * 8], SamplingParams(greedy=True), 8):
        pass  # wakes the threads of this one
    found = {}
    for length in map(int, lengths):
        prompt = np.random.default_rng(length).integers(3, session.vocab_size, length)
        generation = generate(session, [prompt], SamplingParams(greedy=True), int(new_tokens))
        for _ in generation:
            pass
        timings = generation.timings
        found[f"prefill {length}"] = length / timings.prefill_s
        found[f"decode after {length}"] = timings.decode_steps / timings.decode_s
    print(json.dumps(found), flush=True)
"""


@contextlib.contextmanager
def checkout(revision: str, folder: Path) -> Iterator[Path]:
    """A worktree of a revision, which is removed at the end of the `with` block."""
    tree = folder / "tree"
    subprocess.run(["git", "worktree", "add", "--detach", "--quiet", str(tree), revision], cwd=ROOT, check=True)
    try:
        yield tree
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", str(tree)], cwd=ROOT, check=True)


def importable(tree: Path, folder: Path) -> Path:
    """A folder for PYTHONPATH from which the tree's `minimind_edge` is imported."""
    namespace = folder / "minimind_edge"
    namespace.mkdir(parents=True)
    for package in PACKAGES:
        (namespace / package).symlink_to(tree / package, target_is_directory=True)
    return folder


class Worker:
    """A process that holds a revision's model."""

    def __init__(self, path: Path, artifact: str, arguments: argparse.Namespace) -> None:
        name, _, precision = artifact.partition(":")
        command = [sys.executable, "-c", WORKER, name, precision, str(arguments.threads), str(arguments.new_tokens)]
        self._process = subprocess.Popen(
            [*command, *arguments.prompt_tokens.split(",")],
            env=os.environ | {"PYTHONPATH": str(path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._answer()

    def run(self) -> dict[str, float]:
        """Run one round; return the tokens per second by the name of the measurement."""
        assert self._process.stdin is not None
        self._process.stdin.write("run\n")
        self._process.stdin.flush()
        found: dict[str, float] = json.loads(self._answer())
        return found

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"a worker ended with exit code {self._process.wait()}")
        return line


def compare(artifact: str, trees: dict[str, Path], arguments: argparse.Namespace) -> dict[str, Any]:
    """Run rounds of both revisions on one artifact; the first round warms up and does not count."""
    workers = {name: Worker(path, artifact, arguments) for name, path in trees.items()}
    rounds: list[dict[str, dict[str, float]]] = []
    for number in range(arguments.rounds + 1):
        order = ("other", "this") if number % 2 else ("this", "other")
        rounds.append({name: workers[name].run() for name in order})
    for worker in workers.values():
        worker.close()
    del rounds[0]
    rows = {}
    for what in rounds[0]["this"]:
        ratios = [each["this"][what] / each["other"][what] for each in rounds]
        rows[what] = {
            "this_tokens_per_s": statistics.median(each["this"][what] for each in rounds),
            "other_tokens_per_s": statistics.median(each["other"][what] for each in rounds),
            "ratio": statistics.median(ratios),
            "ratio_range": [min(ratios), max(ratios)],
        }
        row = rows[what]
        print(
            f"{artifact:40} {what:18} {row['this_tokens_per_s']:8.0f} / {row['other_tokens_per_s']:8.0f} tok/s  "
            f"{row['ratio']:.3f} ({row['ratio_range'][0]:.3f} to {row['ratio_range'][1]:.3f})",
            file=sys.stderr,
        )
    return {"artifact": Path(artifact).name, "rows": rows}


def main() -> None:
    """Measure, print a line for each row, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("revision")
    parser.add_argument("artifacts", nargs="+")
    parser.add_argument("--prompt-tokens", default="128,512")
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="minimind-edge-") as name:
        folder = Path(name)
        with checkout(arguments.revision, folder) as tree:
            trees = {"this": importable(ROOT, folder / "this"), "other": importable(tree, folder / "other")}
            found = [compare(artifact, trees, arguments) for artifact in arguments.artifacts]
    if arguments.output:
        from minimind_edge.runtime.bench import describe_machine

        report = {"machine": describe_machine(), "revision": arguments.revision, "artifacts": found}
        arguments.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
