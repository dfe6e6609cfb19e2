"""The one check that a file named inside a folder stays inside that folder, for every reader and every copier."""

from __future__ import annotations

import shutil
from pathlib import Path, PurePosixPath, PureWindowsPath

from ..errors import ArtifactError

MAX_NAME_BYTES = 1024
"""Longest relative name that is looked up, in bytes of UTF-8; file systems take 255 a component."""

MEMORY_LOCATION = "*/_ORT_MEM_ADDR_/*"
"""The location by which ONNX Runtime means an address in its own memory, no file."""


def member(folder: Path, name: str) -> Path | None:
    """A regular file of a folder, None where there is none.

    A link is followed as long as it stays inside the folder. In the Hugging Face cache
    (`models--OWNER--NAME/snapshots/REVISION/`) it may also lead to that model's own `blobs/`.

    Args:
        folder: The folder, which the user named and which is trusted as a place.
        name: The file's name relative to it, with slashes, as some file has it: not trusted.

    Raises:
        ArtifactError: The name, or the link that it is, leads out of the folder, or it is no file name at all.
    """
    check_name(folder, name)
    path = folder / name
    try:
        if not path.is_file():
            return None
        if not stays_inside(folder, path):
            raise ArtifactError(f"{path} is a link that leads out of its folder; it is not safe to use")
    except (OSError, RuntimeError) as error:  # a component that is too long; a link to itself, before Python 3.13
        raise ArtifactError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    return path


def require_member(folder: Path, name: str, named_by: str) -> Path:
    """A regular file of a folder that something else says is there; see `member`.

    Args:
        folder: The folder.
        name: The file's name relative to it.
        named_by: What names it, such as `its manifest`.

    Raises:
        ArtifactError: There is none, or the name leads out of the folder.
    """
    path = member(folder, name)
    if path is None:
        raise ArtifactError(f"{folder} lacks {name}, which {named_by} names; export the checkpoint again")
    return path


def copy_member(folder: Path, name: str, target: Path) -> bool:
    """Copy one file out of a folder; whether it was there.

    Args:
        folder: The folder.
        name: The file's name relative to it.
        target: The copy's path; its parent folders are made.

    Raises:
        ArtifactError: The name leads out of the folder.
        OSError: The copy cannot be written.
    """
    path = member(folder, name)
    if path is None:
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, target)
    return True


def external_data(graph: Path, location: str) -> Path | None:
    """The file next to a graph that some of its weights lie in, None where it is missing.

    Args:
        graph: The `.onnx` file.
        location: What the graph says about where the weights are.

    Raises:
        ArtifactError: It is an address in memory, or leads out of the graph's folder.
    """
    if location.startswith(MEMORY_LOCATION[:-1]) or location == MEMORY_LOCATION:
        raise ArtifactError(f"{graph} has weights at an address in memory, not in a file; it is not safe to use")
    return member(graph.parent, location)


def check_name(folder: Path, name: str) -> None:
    """See that a relative name stays inside its folder, whatever is there.

    Raises:
        ArtifactError: It does not, or it is no file name at all.
    """
    relative = PurePosixPath(name)
    if relative.is_absolute() or PureWindowsPath(name).anchor or "\\" in name or ".." in relative.parts or "\0" in name:
        raise ArtifactError(
            f"{folder}: the file name {name[:80]!r} leads out of the folder; the artifact is not safe to use"
        )
    if not relative.parts or len(name.encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES or not name.isprintable():
        raise ArtifactError(f"{folder}: {name[:80]!r} is not a file name (empty, too long or not printable)")


def stays_inside(folder: Path, path: Path) -> bool:
    """Whether what a path leads to lies in the folder, or in the blobs of the Hugging Face cache that it is part of."""
    root = folder.resolve()
    return any(path.resolve().is_relative_to(each) for each in (root, *_blobs(root)))


def _blobs(root: Path) -> list[Path]:
    return [
        parent.parent / "blobs"
        for parent in root.parents
        if parent.name == "snapshots" and parent.parent.name.startswith("models--")
    ][:1]
