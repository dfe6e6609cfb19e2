"""The check of links in a checkpoint's folder: they may not lead out of it, except within Hugging Face's cache."""

from __future__ import annotations

from pathlib import Path

from ..errors import CheckpointError


def require_inside(file: Path, folder: Path) -> Path:
    """Check that a file of a folder lies in it, or in the blobs of Hugging Face's cache that the folder belongs to.

    A link that leads elsewhere would let a downloaded folder read the user's own files.

    Args:
        file: A file that was found in `folder`, not named by the user.
        folder: The checkpoint's folder.

    Returns:
        `file` as it was given.

    Raises:
        CheckpointError: The file is a link out of the folder, or a loop.
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
