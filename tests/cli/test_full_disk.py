"""A disk that is full: exit code 4, one line, and nothing left half-written."""

from __future__ import annotations

import resource
import shutil
import subprocess

import pytest

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
