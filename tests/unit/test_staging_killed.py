"""Every moment at which a writer can be killed: before each thing that it does to the file system.

An audit hook counts those things and sends the process SIGKILL at the nth; with n from 1 on until the writer comes to
its end, there is no moment left out.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from minimind_edge.export.artifact import staging
from minimind_edge.export.artifact.staging import staged_files, staged_folder, temporary_folder
from minimind_edge.runtime.artifact.paths import arriving

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

FILE_EVENTS = ("open", "os.", "shutil.", "ctypes.", "fcntl.")
MOST_MOMENTS = 500


def killed_at(moment: int, write: Callable[[], None]) -> bool:
    """Run a writer in a process that kills itself before its nth step; whether it got as far as that."""
    child = os.fork()
    if child == 0:
        steps = 0

        def count(event: str, _: object) -> None:
            nonlocal steps
            if event.startswith(FILE_EVENTS):
                steps += 1
                if steps == moment:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        write()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def every_moment(write: Callable[[], None], check: Callable[[], None]) -> int:
    """Kill the writer at each of its moments, and check what it left; how many moments there were."""
    moment = 1
    while killed_at(moment, write):
        check()
        moment += 1
        assert moment < MOST_MOMENTS
    return moment - 1


def content(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


OLD = {"manifest.json": "old", "onnx/model.onnx": "old graph"}
NEW = {"manifest.json": "new", "onnx/model.onnx": "new graph", "README.md": "new"}


def put(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def write_folder(final: Path) -> None:
    with staged_folder(final) as stage:
        put(stage, NEW)


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_replaced_folder_is_the_old_or_the_new_one_whole(tmp_path: Path, monkeypatch, can_exchange: bool) -> None:
    if not can_exchange:
        monkeypatch.setattr(staging, "exchange", lambda first, second: False)
    final = tmp_path / "artifact"
    put(final, OLD)
    found = []

    def check() -> None:
        if can_exchange and sys.platform == "linux":
            found.append(content(final))
            assert found[-1] in (OLD, NEW), "the destination must never be empty"
        with staging.locked(final):
            assert content(final) in (OLD, NEW)
        assert names(tmp_path) == ["artifact"]
        if content(final) == NEW:
            (final / "README.md").unlink()
            put(final, OLD)

    assert every_moment(lambda: write_folder(final), check) > 20
    if found:
        assert OLD in found
        assert NEW in found


def test_a_new_folder_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    final = tmp_path / "deep" / "artifact"

    def check() -> None:
        if final.exists():
            assert content(final) == NEW
            for name in NEW:
                (final / name).unlink()
            (final / "onnx").rmdir()
            final.rmdir()
        with staging.locked(tmp_path / "deep" / "another"):  # one that writes next to it cleans up as well
            pass
        assert not final.parent.exists() or names(final.parent) == []

    assert every_moment(lambda: write_folder(final), check) > 20


def test_files_that_belong_together_are_all_new_or_all_old_after_the_next_writer(tmp_path: Path) -> None:
    files = ("model.plan", "model.plan.json")
    put(tmp_path, dict.fromkeys(files, "old"))
    plan = tmp_path / files[0]
    unfinished = set()

    def write() -> None:
        with staged_files(plan) as stage:
            put(stage, dict.fromkeys(files, "new"))

    seen = set()

    def check() -> None:
        told = (tmp_path / files[1]).read_text()
        if told != plan.read_text():
            assert told == arriving(plan).read_text()  # what describes a plan never comes without it
            unfinished.add(told)
        with staging.locked(plan):
            found = content(tmp_path)
            found.pop(".model.plan.minimind-edge-lock")
            assert found in (dict.fromkeys(files, "old"), dict.fromkeys(files, "new"))
            seen.update(found.values())
        assert names(tmp_path) == list(files)
        put(tmp_path, dict.fromkeys(files, "old"))

    assert every_moment(write, check) > 10
    assert seen == {"old", "new"}
    assert unfinished == {"new"}


def test_a_temporary_folder_is_removed_by_the_next_one(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def write() -> None:
        with temporary_folder() as folder:
            put(folder, NEW)

    def check() -> None:
        with temporary_folder() as folder:
            assert names(folder) == []
        assert names(tmp_path) == []

    assert every_moment(write, check) > 10
