"""The kernels that TensorRT-RTX compiles on the device, kept from run to run."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

FOLDER = "minimind-edge"


class KernelCache:
    """A file of compiled kernels. It makes starting faster and is needed by nothing: what fails with it is passed over.

    TensorRT-RTX itself checks a file's content against its version, the GPU and the driver, and refuses what does not
    fit; then it compiles anew, and the file is replaced.

    Args:
        path: The file; None keeps nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._cache: Any = None
        self._stored = b""

    def attach(self, config: Any) -> None:
        """Have an execution context use the cache.

        Args:
            config: TensorRT-RTX's `IRuntimeConfig` that the context will be made with.
        """
        if self._path is None or not hasattr(config, "create_runtime_cache"):
            return
        if self._cache is None:
            self._cache = config.create_runtime_cache()
            self._load(self._path)
        if self._cache is not None:
            config.set_runtime_cache(self._cache)

    def save(self) -> None:
        """Write what was compiled, if that is more than the file has; it is there whole or not at all."""
        if self._path is None or self._cache is None:
            return
        serialized = self._cache.serialize()
        data = b"" if serialized is None else bytes(serialized)
        if data in (b"", self._stored):
            return
        with contextlib.suppress(OSError):
            _replace(self._path, data)
            self._stored = data

    def _load(self, path: Path) -> None:
        try:
            data = path.read_bytes()
        except OSError:
            return
        if self._cache is not None and data and self._cache.deserialize(data):
            self._stored = data


def kernel_file(digest: str, capability: str) -> Path | None:
    """Where the kernels of a plan are kept: in the user's own cache folder, as they are code.

    Args:
        digest: The plan's sha256.
        capability: Compute capability of the GPU.

    Returns:
        The file; None where the user has no such folder.
    """
    folder = _user_cache()
    return None if folder is None else folder / FOLDER / "kernels" / f"{digest[:32]}-{capability}.cache"


def _user_cache() -> Path | None:
    given = os.environ.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME")
    if given and Path(given).is_absolute():
        return Path(given)
    try:
        return Path.home() / ".cache"
    except RuntimeError:
        return None


def _replace(path: Path, data: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
