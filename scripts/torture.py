"""Kill the commands that write, at random moments, and check that their destinations stay whole.

    PYTHONPATH=tests/support python scripts/torture.py --kills 100 --seed 1

Each command replaces what an earlier run of it wrote. It runs in a process of its own, forked from one that has the
packages imported, and is sent SIGKILL: alternately after a random part of the time of a whole run, and before a random
one of its changes to the file system while it holds the lock of its destination. Then the destination must equal the
old or the new state, file by file, and after the next run nothing else may lie next to it. `race` is another kind of
trial: two exports of different precisions into one folder, started together; the one that ends with exit code 0 must
find its own graph there, and the other one must have reported the conflict.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import mmap
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from stand_in_libraries import stand_in_libraries

Tree = frozenset[tuple[str, str]]
"""The files below a folder, with their digests."""

POLL_SECONDS = 0.002

STEPS = ("open", "os.", "shutil.", "ctypes.", "fcntl.")
"""What the audit events begin with that are counted as steps."""


@dataclass(frozen=True)
class Trial:
    """A command that writes.

    Attributes:
        destination: What it writes to, or changes.
        variants: The command's arguments, twice: it replaces what the other variant wrote.
        describe: What is at the destination, as a value that differs between whole and broken.
    """

    destination: Path
    variants: tuple[tuple[str, ...], tuple[str, ...]]
    describe: Callable[[Path], object]


def main() -> int:
    """Torture the commands that were named; 1 where one of them broke something."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("commands", nargs="*", help="onnx, web, eval, engine, race; all of them unless named")
    parser.add_argument("--kills", type=int, default=100, help="for each command (default: 100)")
    parser.add_argument("--races", type=int, default=50, help="two writers at once (default: 50)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--checkpoint", type=Path, help="a checkpoint (default: the bundled demo)")
    options = parser.parse_args()
    import_packages()
    failed = False
    for name in options.commands or ("onnx", "web", "eval", "engine", "race"):
        with tempfile.TemporaryDirectory(prefix="torture-") as folder:
            scene = Scene(Path(folder).resolve(), options.checkpoint)
            chance = random.Random(f"{options.seed} {name}")
            began = time.monotonic()
            try:
                if name == "race":
                    counts = race(scene, options.races, chance)
                else:
                    counts = torture(getattr(scene, name)(), options.kills, chance, scene.folder)
            except BrokenError as error:
                print(f"{name}: BROKEN: {error}", flush=True)
                failed = True
                continue
            told = ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))
            print(f"{name}: seed {options.seed}: {told}; {time.monotonic() - began:.0f} s", flush=True)
    return 1 if failed else 0


class BrokenError(Exception):
    """Something was lost, or left."""


class Scene:
    """The folder of one kind of trial, and what its commands need.

    Args:
        folder: An empty folder.
        checkpoint: The checkpoint that is exported; None for the bundled one.
    """

    def __init__(self, folder: Path, checkpoint: Path | None) -> None:
        self.folder = folder / "place"
        self.folder.mkdir()
        self.needs = folder / "needs"
        self.needs.mkdir()
        self.checkpoint = () if checkpoint is None else (str(checkpoint),)

    def onnx(self) -> Trial:
        """`onnx --force`."""
        place = self.folder / "model"
        words = ("onnx", *self.checkpoint, "-o", str(place), "--force", "--no-verify", "--max-length")
        return Trial(place, ((*words, "256"), (*words, "512")), tree)

    def web(self) -> Trial:
        """`web --force`, with libraries of a few bytes."""
        place = self.folder / "site"
        words = ("web", *self.checkpoint, "-o", str(place), "--force", "--no-verify")
        words += ("--node-modules", str(stand_in_libraries(self.needs)), "--max-length")
        return Trial(place, ((*words, "256"), (*words, "512")), tree)

    def eval(self) -> Trial:
        """`eval --save`, with another text each time."""
        place = self.folder / "model"
        run_whole(("onnx", *self.checkpoint, "-o", str(place), "--no-verify", "--max-length", "256"))
        texts = [self.needs / name for name in ("one.txt", "two.txt")]
        for text in texts:
            text.write_text(f"The quick brown fox, {text.name}. " * 20)
        words = ("eval", str(place), "--against", str(place), "--limit", "1", "--save", "--text")
        return Trial(place, ((*words, str(texts[0])), (*words, str(texts[1]))), tree)

    def engine(self) -> Trial:
        """`engine`, by TensorRT-RTX, onto a plan that is there."""
        graph = self.needs / "graph"
        words = ("onnx", *self.checkpoint, "-o", str(graph), "--no-verify", "--target", "tensorrt")
        run_whole((*words, "--precision", "fp16", "--max-length", "64"))
        place = self.folder / "plan"
        words = ("engine", str(graph), "-o", str(place / "model.plan"), "--backend", "rtx", "--max-length")
        return Trial(place, ((*words, "32"), (*words, "64")), plan)


def torture(trial: Trial, kills: int, chance: random.Random, folder: Path) -> Counter[str]:
    """Kill the command so many times.

    Raises:
        BrokenError: The destination was neither the old nor the new one, or something else was left after the next run.
    """
    known: list[object] = []
    seconds, steps = float("inf"), 0
    for variant in trial.variants:
        began = time.monotonic()
        run_whole(variant)
        seconds = min(seconds, time.monotonic() - began)
        steps = count_steps(variant)
        known.append(trial.describe(trial.destination))
    if known[0] == known[1]:
        raise BrokenError("the two variants write the same")
    counts: Counter[str] = Counter()
    for turn in range(kills):
        new, by_step = turn % 2, turn // 2 % 2
        variant = trial.variants[new]
        if by_step:
            killed = run_killed_at(variant, chance.randint(1, steps))
        else:
            killed = run_killed(variant, chance.uniform(0.0, seconds))
        found = trial.describe(trial.destination)
        if found not in known:
            raise BrokenError(f"kill {turn}: neither the old nor the new one: {found}")
        left = [path for path in folder.rglob("*") if ".minimind-edge-" in path.name]
        counts["killed" if killed else "came to their end before"] += 1
        counts["new" if found == known[new] else "old"] += 1
        counts["left something for the next run"] += bool(left)
        run_whole(variant)
        if trial.describe(trial.destination) != known[new]:
            raise BrokenError(f"kill {turn}: the run after it wrote something else")
        around = sorted(path.name for path in folder.iterdir())
        inside = [path for path in folder.rglob("*") if ".minimind-edge-" in path.name]
        if around != [trial.destination.name] or inside:
            raise BrokenError(f"kill {turn}: left after the next run: {around} {inside}")
    return counts


def race(scene: Scene, races: int, chance: random.Random) -> Counter[str]:
    """Begin two exports into one folder together, so many times.

    Raises:
        BrokenError: One was lost, and its command said that all was well.
    """
    counts: Counter[str] = Counter()
    precisions = ("fp32", "fp16")
    for turn in range(races):
        place = scene.folder / "model"
        shutil.rmtree(place, ignore_errors=True)
        children = []
        for precision in precisions:
            words = ("onnx", *scene.checkpoint, "-o", str(place), "--no-verify", "--precision", precision)
            children.append(start(words))
            time.sleep(chance.uniform(0.0, 0.3))
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        content = json.loads((place / "manifest.json").read_text())
        found = {graph["precision"] for graph in content["graphs"]}
        wanted = {precision for precision, code in zip(precisions, codes, strict=True) if code == 0}
        if found != wanted or not wanted or not set(codes) <= {0, 4}:
            raise BrokenError(f"race {turn}: exit codes {codes}, and in the folder {found}")
        for graph in content["graphs"]:
            if digest(place / graph["file"]) != graph["sha256"]:
                raise BrokenError(f"race {turn}: {graph['file']} is not whole")
        if [path.name for path in scene.folder.iterdir()] != [place.name]:
            raise BrokenError(f"race {turn}: something was left")
        counts[f"with {len(wanted)} of 2 written and {2 - len(wanted)} refused"] += 1
    return counts


def tree(folder: Path) -> Tree:
    """Every file of a folder with its digest; what a killed process was writing inside is not a part of it."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return frozenset(
        (path.relative_to(folder).as_posix(), digest(path)) for path in files if ".minimind-edge-" not in str(path)
    )


def plan(folder: Path) -> object:
    """The length that a plan is for, as a reader finds it, and the files around it."""
    from minimind_edge.runtime.errors import ArtifactError
    from minimind_edge.runtime.tensorrt.plan import Plan

    others = [each for each in sorted(tree(folder)) if not each[0].startswith("model.plan")]
    try:
        found = Plan.read(folder / "model.plan")
        found.load_bytes()
    except ArtifactError as error:
        return str(error)
    return found.cache.capacity, others


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def import_packages() -> None:
    """Import what the commands import, so that a forked process begins with its work."""
    import onnx_ir  # noqa: F401
    import onnxruntime  # noqa: F401
    import torch

    import minimind_edge.cli.export_app
    import minimind_edge.export.evaluation
    import minimind_edge.export.pipeline
    import minimind_edge.export.plan.pipeline
    import minimind_edge.export.web  # noqa: F401

    torch.set_num_threads(1)


def on_steps(call: Callable[[int], None]) -> None:
    """In a forked process: call with 1, 2, 3 ... before each thing it does to the file system under its lock."""
    steps, lock, is_released = 0, "", False

    def count(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal steps, lock, is_released
        if not event.startswith(STEPS) or is_released:
            return
        path = str(arguments[0]) if arguments else ""
        if not lock and path.endswith("minimind-edge-lock"):
            lock = path
        if lock:
            steps += 1
            call(steps)
            is_released = event == "os.remove" and path == lock

    sys.addaudithook(count)


def kill_at(step: int) -> Callable[[int], None]:
    """What kills the process when so many steps are done."""

    def call(done: int) -> None:
        if done == step:
            os.kill(os.getpid(), signal.SIGKILL)

    return call


def start(words: Sequence[str], each_step: Callable[[int], None] | None = None) -> int:
    """Run `minimind-export` in a forked process, silently; its process id."""
    child = os.fork()
    if child == 0:
        if each_step is not None:
            on_steps(each_step)
        null = os.open(os.devnull, os.O_RDWR)
        for number in range(3) if "TORTURE_SHOW" not in os.environ else range(2):
            os.dup2(null, number)
        sys.argv = ["minimind-export", *words]
        from minimind_edge.cli.export_app import main as export

        code = 1
        try:
            export()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        finally:
            os._exit(code)
    return child


def run_whole(words: Sequence[str]) -> None:
    """Run a command to its end.

    Raises:
        BrokenError: It failed.
    """
    code = os.waitstatus_to_exitcode(os.waitpid(start(words), 0)[1])
    if code != 0:
        raise BrokenError(f"exit code {code} of minimind-export {' '.join(words)}")


def count_steps(words: Sequence[str]) -> int:
    """How many things a whole run does to the file system under its lock."""
    with mmap.mmap(-1, 8) as counter:  # shared with the forked process

        def note(steps: int) -> None:
            counter[:] = steps.to_bytes(8, "little")

        os.waitpid(start(words, note), 0)
        return int.from_bytes(counter[:], "little")


def run_killed_at(words: Sequence[str], step: int) -> bool:
    """Run a command and kill it before one of its steps; whether it came as far."""
    return os.WIFSIGNALED(os.waitpid(start(words, kill_at(step)), 0)[1])


def run_killed(words: Sequence[str], seconds: float) -> bool:
    """Run a command and kill it after so many seconds; whether it was still running then."""
    child = start(words)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if os.waitpid(child, os.WNOHANG)[0]:
            return False
        time.sleep(POLL_SECONDS)
    os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    sys.exit(main())
