"""Operators for ONNX Runtime in C++: attention over a KV cache, products by int4 and int8 weights, SwiGLU, RMSNorm."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def library() -> Path | None:
    """The shared library for `SessionOptions.register_custom_ops_library`.

    Returns:
        None where this CPU has neither AVX2 with FMA nor AVX-512.

    Raises:
        OSError: The library does not load, or is missing.
    """
    import ctypes
    from pathlib import Path

    path = Path(__file__).with_name("operators.so")
    lanes: int = ctypes.CDLL(str(path)).minimind_edge_native_lanes()
    return path if lanes else None
