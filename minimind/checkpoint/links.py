"""Links in a checkpoint's folder: which of them may be followed."""

from __future__ import annotations

from pathlib import Path

from ..errors import CheckpointError


def require_inside(file: Path, folder: Path) -> Path:
    """See that a file of a folder is in it, or where Hugging Face's cache keeps the content of a snapshot's files.

    A link that leads elsewhere would let a downloaded folder speak for files that its author has never seen.

    Args:
        file: A file that was found in `folder` and not named by the user.
        folder: The checkpoint's.

    Returns:
        `file` as it was given.

    Raises:
        CheckpointError: It is a link out of the folder, or a loop.
    """
    try:
        target, root = file.resolve(strict=True), folder.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise CheckpointError(f"{file}: cannot be read: a link to nowhere or in a circle") from error
    if target.is_relative_to(root) or _is_blob_of(target, root):
        return file
    raise CheckpointError(f"{file}: links out of its folder, to {target}; put the file itself there")


def _is_blob_of(target: Path, root: Path) -> bool:
    """Whether `target` is `REPOSITORY/blobs/DIGEST` and `root` lies in the same repository's `snapshots`."""
    repository = target.parent.parent
    return target.parent.name == "blobs" and root.is_relative_to(repository / "snapshots")
