from __future__ import annotations

import errno
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from minimind_edge.export.artifact import staging
from minimind_edge.export.artifact.exchange import exchange
from minimind_edge.export.artifact.staging import staged_folder
from minimind_edge.export.errors import BusyError


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_folder_appears_whole_and_alone(tmp_path: Path) -> None:
    final = tmp_path / "deep" / "artifact"
    with staged_folder(final) as stage:
        (stage / "onnx").mkdir()
        (stage / "onnx" / "model.onnx").write_bytes(b"graph")
        assert not final.exists()
    assert (final / "onnx" / "model.onnx").read_bytes() == b"graph"
    assert _names(final.parent) == {"artifact"}


def test_an_error_leaves_nothing_new_and_the_old_untouched(tmp_path: Path) -> None:
    final = tmp_path / "artifact"
    final.mkdir()
    (final / "manifest.json").write_text("old")
    with pytest.raises(OSError, match="full"), staged_folder(final) as stage:
        (stage / "manifest.json").write_text("new")
        raise OSError(errno.ENOSPC, "disk full")
    assert (final / "manifest.json").read_text() == "old"
    assert _names(tmp_path) == {"artifact"}


def test_a_replacement_drops_the_old_files(tmp_path: Path) -> None:
    final = tmp_path / "artifact"
    final.mkdir()
    (final / "stale").write_text("old")
    with staged_folder(final) as stage:
        (stage / "fresh").write_text("new")
    assert _names(final) == {"fresh"}
    assert _names(tmp_path) == {"artifact"}


def test_kept_files_survive_beside_new_ones(tmp_path: Path) -> None:
    final = tmp_path / "artifact"
    (final / "onnx").mkdir(parents=True)
    (final / "onnx" / "model.onnx").write_text("fp32")
    with staged_folder(final, keep_existing=True) as stage:
        (stage / "onnx" / "model_fp16.onnx").write_text("fp16")
    assert {path.name: path.read_text() for path in (final / "onnx").iterdir()} == {
        "model.onnx": "fp32",
        "model_fp16.onnx": "fp16",
    }


def test_the_folder_is_readable_as_any_new_folder_is(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    with staged_folder(tmp_path / "artifact"):
        pass
    assert (tmp_path / "artifact").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_second_writer_is_told_who_writes(tmp_path: Path) -> None:
    """Each thread has a lock of its own, as each process has."""
    final = tmp_path / "artifact"
    with ThreadPoolExecutor(1) as other, staged_folder(final) as stage:
        (stage / "manifest.json").write_text("first")
        with pytest.raises(BusyError, match=rf"process {os.getpid()} is writing to {final}: wait until"):
            other.submit(staged_folder(final).__enter__).result()
    assert (final / "manifest.json").read_text() == "first"
    assert _names(tmp_path) == {"artifact"}


def test_two_writers_next_to_each_other_do_not_disturb_each_other(tmp_path: Path) -> None:
    with staged_folder(tmp_path / "one") as first:
        (first / "file").write_text("first")
        with staged_folder(tmp_path / "two") as second:
            (second / "file").write_text("second")
    assert [(tmp_path / name / "file").read_text() for name in ("one", "two")] == ["first", "second"]
    assert _names(tmp_path) == {"one", "two"}


def test_a_rename_that_fails_leaves_the_old_folder_alone(tmp_path: Path, monkeypatch) -> None:
    final = tmp_path / "artifact"
    final.mkdir()
    (final / "manifest.json").write_text("old")
    monkeypatch.setattr(staging, "exchange", lambda first, second: False)
    rename = Path.rename

    def fail(self: Path, target: Path) -> Path:
        if target == final and self.name.endswith("-new"):
            raise OSError(errno.EIO, "input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="input/output"), staged_folder(final) as stage:
        (stage / "manifest.json").write_text("new")
    assert (final / "manifest.json").read_text() == "old"
    assert _names(tmp_path) == {"artifact"}


def test_what_looks_like_ours_and_is_somebody_elses_stays(tmp_path: Path, monkeypatch) -> None:
    strange = tmp_path / ".artifact.minimind-edge-files"
    strange.mkdir()
    (strange / "victim").write_text("planted")
    monkeypatch.setattr(staging, "is_ours", lambda path: False)
    with staging.locked(tmp_path / "artifact"):
        pass
    assert _names(tmp_path) == {strange.name}


def test_the_exchange_of_two_folders_where_the_system_has_it(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    done = exchange(tmp_path / "one", tmp_path / "two")
    assert done or sys.platform not in {"linux", "darwin"}
    found = {name: (tmp_path / name / "file").read_text() for name in ("one", "two")}
    assert found == ({"one": "two", "two": "one"} if done else {"one": "one", "two": "two"})
    assert not exchange(tmp_path / "one", tmp_path / "missing")
    assert (tmp_path / "one").exists()


def test_what_a_command_abandons_is_gone(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), staged_folder(tmp_path / "artifact") as stage:
        (stage / "manifest.json").write_text("new")
        staging.abandon()
        assert _names(tmp_path) == set()
    assert _names(tmp_path) == set()
