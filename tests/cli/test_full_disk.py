"""A disk that is full: exit code 4, one line, and nothing left half-written."""

from __future__ import annotations

import errno
import resource
import shutil
import subprocess

import pytest

from minimind_edge.export.artifact.folder_copy import copy_folder

TOO_SMALL = 300_000
"""Bytes: less than the graph of the small checkpoint takes."""


@pytest.fixture
def small_disk(tmp_path):
    """Make a file system with so many bytes, and return its folder; needs the right to mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def make(size):
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        result = subprocess.run(mount, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            pytest.skip(f"cannot mount a small disk here: {result.stderr.strip()}")
        return folder

    yield make
    subprocess.run(["umount", str(folder)], capture_output=True, check=False)


def test_export_to_a_full_disk(refused_here, checkpoint, small_disk):
    disk = small_disk(TOO_SMALL)
    line = refused_here(4, "onnx", checkpoint, "-o", disk / "artifact")
    assert "no space left on device" in line
    assert list(disk.iterdir()) == []


def test_a_full_disk_leaves_the_artifact_that_was_there(refused_here, checkpoint, artifact, small_disk):
    files = {path.relative_to(artifact): path.read_bytes() for path in artifact.rglob("*") if path.is_file()}
    disk = small_disk(sum(map(len, files.values())) + TOO_SMALL)
    shutil.copytree(artifact, disk / "artifact")
    line = refused_here(4, "onnx", checkpoint, "-o", disk / "artifact", "--force")
    assert "no space left on device" in line
    assert [path.name for path in disk.iterdir()] == ["artifact"]
    assert {
        path.relative_to(disk / "artifact"): path.read_bytes() for path in disk.rglob("*") if path.is_file()
    } == files


def test_export_past_the_limit_of_a_files_size(refused, checkpoint, tmp_path):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (TOO_SMALL, TOO_SMALL))

    line = refused(4, "minimind-export", "onnx", checkpoint, "-o", tmp_path / "artifact", preexec_fn=limit)
    assert "file too large" in line
    assert list(tmp_path.iterdir()) == []


def test_figures_that_cannot_be_saved_leave_the_artifact_as_it_was(refused_here, artifact, small_disk, tmp_path):
    files = {path.relative_to(artifact): path.read_bytes() for path in artifact.rglob("*") if path.is_file()}
    text = tmp_path / "text.txt"
    text.write_text("The quick brown fox. " * 20)
    disk = small_disk(sum(map(len, files.values())) + TOO_SMALL)
    place = disk / "artifact"
    shutil.copytree(artifact, place)
    with pytest.raises(OSError, match="No space left"), (disk / "rest").open("wb", buffering=0) as rest:
        while True:
            rest.write(b"0" * 1024)
    line = refused_here(4, "eval", place, "--save", "--against", place, "--text", text, "--limit", 1)
    assert "no space left on device" in line
    assert sorted(path.name for path in disk.iterdir()) == ["artifact", "rest"]
    assert {path.relative_to(place): path.read_bytes() for path in place.rglob("*") if path.is_file()} == files


def test_a_site_on_a_full_disk_is_one_line_about_one_file(tmp_path, small_disk):
    page = tmp_path / "page"
    page.mkdir()
    for name in ("a.js", "b.js", "c.js"):
        (page / name).write_bytes(b"0" * TOO_SMALL)
    with pytest.raises(OSError, match="No space left on device") as caught:
        copy_folder(page, small_disk(TOO_SMALL) / "site")
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.strerror == "No space left on device"
