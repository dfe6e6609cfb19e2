from __future__ import annotations

import errno
from pathlib import Path

import pytest

from minimind_edge.export.artifact.staging import staged_folder


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
