"""Memory that was freed and is still held."""

from __future__ import annotations

import ctypes
import gc
import sys


def return_freed_memory() -> None:
    """Hand what was freed back to the system, where the C library can (glibc).

    It keeps freed blocks for later ones of like sizes; ONNX Runtime's are of other sizes than PyTorch's, so that
    without this an export's peak is the sum of what never existed together.
    """
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
