"""How an artifact is led back to its checkpoint, and what its manifest tells about where that lay."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from minimind_edge.export.artifact.manifest import checkpoint_hint
from minimind_edge.export.artifact.origin import find_checkpoint
from minimind_edge.export.bundled import bundled_checkpoint
from minimind_edge.export.errors import ExportError
from minimind_edge.runtime.artifact.manifest import CheckpointEntry


@pytest.fixture
def project(tmp_path, monkeypatch):
    """The current folder, with a file that stands for a checkpoint; its digest."""
    folder = tmp_path / "project"
    (folder / "out").mkdir(parents=True)
    (folder / "out" / "tiny.pth").write_bytes(b"weights")
    monkeypatch.chdir(folder)
    return folder, hashlib.sha256(b"weights").hexdigest()


def test_a_hint_is_relative_to_the_artifact(project):
    assert checkpoint_hint(Path("out/tiny.pth"), Path("exported/small")) == {"path": "../../out/tiny.pth"}


def test_what_lies_outside_of_the_current_folder_leaves_no_hint(project, tmp_path):
    assert checkpoint_hint(Path("out/tiny.pth"), tmp_path / "elsewhere") == {}
    (tmp_path / "tiny.pth").write_bytes(b"weights")
    assert checkpoint_hint(tmp_path / "tiny.pth", Path("exported")) == {}
    assert checkpoint_hint(bundled_checkpoint(moe=False), Path("exported")) == {}


def test_the_root_of_the_file_system_is_no_project(project, tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    assert checkpoint_hint(tmp_path / "project" / "out" / "tiny.pth", tmp_path / "project" / "exported") == {}


def test_a_checkpoint_is_found_by_its_hint_from_anywhere(project, tmp_path, monkeypatch):
    folder, sha256 = project
    (folder / "exported").mkdir()
    monkeypatch.chdir(tmp_path)
    found = find_checkpoint(folder / "exported", CheckpointEntry("tiny.pth", sha256, path="../out/tiny.pth"))
    assert found.resolve() == folder / "out" / "tiny.pth"
    with pytest.raises(ExportError, match="name it by --against"):
        find_checkpoint(folder / "exported", CheckpointEntry("tiny.pth", sha256))


@pytest.mark.parametrize("hint", ["../out/other.pth", "../out", "", "/proc/self/mem", "../missing/tiny.pth"])
def test_a_hint_that_does_not_lead_to_the_checkpoint_is_not_followed(project, hint):
    folder, sha256 = project
    (folder / "out" / "other.pth").write_bytes(b"weights")
    with pytest.raises(ExportError, match="name it by --against"):
        find_checkpoint(folder / "exported", CheckpointEntry("tiny.pth", sha256, path=hint))


def test_an_absolute_hint_is_not_followed(project):
    folder, sha256 = project
    with pytest.raises(ExportError, match="name it by --against"):
        find_checkpoint(folder / "exported", CheckpointEntry("tiny.pth", sha256, path=str(folder / "out" / "tiny.pth")))


def test_a_file_of_the_name_with_another_digest_is_not_taken(project):
    folder, _ = project
    with pytest.raises(ExportError, match="name it by --against"):
        find_checkpoint(folder / "exported", CheckpointEntry("tiny.pth", "0" * 64, path="../out/tiny.pth"))


def test_verify_of_a_plan_asks_for_the_gpu_before_anything_slow(tmp_path):
    """A machine without a GPU learns so before PyTorch is imported, which takes most of the time there."""
    program = """
import sys
from pathlib import Path
from minimind_edge.export.verification import verify_artifact
from minimind_edge.runtime.errors import MissingError
from minimind_edge.runtime.tensorrt import loading

def missing(path):
    raise MissingError("no NVIDIA driver here")

loading.load_plan = missing
try:
    verify_artifact(Path("model.plan"))
except MissingError:
    slow = {"torch", "transformers", "onnx", "onnxruntime"} & set(sys.modules)
    print(sorted(slow))
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert json.loads(result.stdout) == []
