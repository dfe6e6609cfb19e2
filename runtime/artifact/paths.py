"""The check that a file named inside a folder stays inside that folder, for everything that reads or copies one."""

from __future__ import annotations

from pathlib import Path, PurePosixPath, PureWindowsPath

from ..errors import ArtifactError

MAX_NAME_BYTES = 1024
"""The length limit of a relative file name, in bytes of UTF-8."""

MAX_COMPONENT_BYTES = 255
"""The length limit of a name without a folder, in bytes of UTF-8, as file systems have it."""

HIDDEN = ".minimind-edge-"
"""The part of a hidden name between a destination's name and the kind of what its writer has next to it."""

MEMORY_LOCATION = "*/_ORT_MEM_ADDR_/*"
"""The external-data location by which ONNX Runtime means an address in its own memory instead of a file."""


def arriving(path: Path) -> Path:
    """Where a complete new file waits for the step that puts it in the place of `path`."""
    return path.with_name(f".{path.name}{HIDDEN}files") / path.name


def member(folder: Path, name: str) -> Path | None:
    """A regular file of a folder, None where there is none.

    A link is followed as long as it stays inside the folder. In the Hugging Face cache
    (`models--OWNER--NAME/snapshots/REVISION/`) it may also lead to that model's own `blobs/`.

    Args:
        folder: The folder, which the user named and which is therefore trusted.
        name: The file's name relative to the folder, with slashes; it comes from a file and is not trusted.

    Raises:
        ArtifactError: The name leads out of the folder, by itself or as a link, or it is not a file name.
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
    """A regular file of a folder, as `member` finds it, whose absence is an error.

    Args:
        folder: The folder.
        name: The file's name relative to the folder.
        named_by: The source of the name, for messages, such as `its manifest`.

    Raises:
        ArtifactError: The file is missing, or its name leads out of the folder.
    """
    path = member(folder, name)
    if path is None:
        raise ArtifactError(f"{folder} lacks {name}, which {named_by} names; export the checkpoint again")
    return path


def copy_member(folder: Path, name: str, target: Path) -> bool:
    """Copy one file out of a folder.

    Args:
        folder: The folder.
        name: The file's name relative to it.
        target: The path of the copy; its parent folders are created.

    Returns:
        Whether the file exists.

    Raises:
        ArtifactError: The name leads out of the folder.
        OSError: The copy cannot be written.
    """
    import shutil  # a runtime copies nothing: its start does without the modules that this brings

    path = member(folder, name)
    if path is None:
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, target)
    return True


def external_data(graph: Path, location: str) -> Path | None:
    """The file next to a graph that holds some of its weights (ONNX external data), None where it is missing.

    Args:
        graph: The `.onnx` file.
        location: The location of the weights as the graph has it.

    Raises:
        ArtifactError: The location is an address in memory, or leads out of the graph's folder.
    """
    if location.startswith(MEMORY_LOCATION[:-1]) or location == MEMORY_LOCATION:
        raise ArtifactError(f"{graph} has weights at an address in memory, not in a file; it is not safe to use")
    return member(graph.parent, location)


def check_name(folder: Path, name: str) -> None:
    """Check that a relative name, by itself, stays inside its folder.

    Raises:
        ArtifactError: The name leads out of the folder, or it is not a file name.
    """
    relative = PurePosixPath(name)
    if relative.is_absolute() or PureWindowsPath(name).anchor or "\\" in name or ".." in relative.parts or "\0" in name:
        raise ArtifactError(
            f"{folder}: the file name {name[:80]!r} leads out of the folder; the artifact is not safe to use"
        )
    if not relative.parts or len(name.encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES or not name.isprintable():
        raise ArtifactError(f"{folder}: {name[:80]!r} is not a file name (empty, too long or not printable)")


def stays_inside(folder: Path, path: Path) -> bool:
    """Whether a path, its links resolved, lies in the folder or in the `blobs` of the folder's Hugging Face cache."""
    root = folder.resolve()
    return any(path.resolve().is_relative_to(each) for each in (root, *_blobs(root)))


def _blobs(root: Path) -> list[Path]:
    return [
        parent.parent / "blobs"
        for parent in root.parents
        if parent.name == "snapshots" and parent.parent.name.startswith("models--")
    ][:1]
