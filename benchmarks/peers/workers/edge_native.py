"""The worker of this project with its native operators, which are a package that is built from source."""

from __future__ import annotations

import os
from pathlib import Path

import serving
from edge import SWITCH, Edge


def load(folder: Path, threads: int) -> Edge:
    """Load a model for the native operators, or end with the reason why that is not possible."""
    try:
        from minimind_edge.native import library
    except ImportError:
        raise SystemExit(
            "the package minimind-edge-native is not installed: `make bench` builds it where there is a C++ compiler"
        ) from None
    if library() is None:
        raise SystemExit("this processor lacks the instructions of the native operators")
    os.environ.pop(SWITCH, None)
    edge = Edge(folder, threads)
    if edge.operators != "native":
        raise SystemExit("the native operators replace none of this graph's")
    return edge


if __name__ == "__main__":
    serving.main(load)
