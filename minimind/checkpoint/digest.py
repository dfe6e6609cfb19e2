"""SHA-256 of weight files, read as a stream."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from ..errors import CheckpointError

CHUNK_BYTES = 1 << 20


def file_digest(file: Path) -> str:
    """The SHA-256 of one file, in hexadecimal.

    Raises:
        CheckpointError: The file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with file.open("rb") as stream:
            while chunk := stream.read(CHUNK_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read: {error.strerror}") from error
    return digest.hexdigest()


def combined_digest(files: Sequence[Path]) -> str:
    """The SHA-256 of a checkpoint: that of its only file, or that of its shards' sorted hexadecimal digests."""
    digests = sorted(file_digest(file) for file in files)
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
