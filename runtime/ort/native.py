"""The optional package minimind-edge-native: whether it is installed, and whether this process uses it."""

from __future__ import annotations

import functools
import importlib
import os
from pathlib import Path

from .environment import warn

PACKAGE = "minimind_edge.native"

SWITCH = "MINIMIND_EDGE_NATIVE"
"""The environment variable that turns native operators off, by the value 0."""


def native_library() -> Path | None:
    """The shared library with the native operators.

    Returns:
        Its file; None where the package is not installed, where this processor lacks what it needs, where it is turned
        off, or where it is broken, of which the program is told once.
    """
    if os.environ.get(SWITCH) == "0":
        return None
    try:
        found: Path | None = importlib.import_module(PACKAGE).library()
    except ModuleNotFoundError as error:
        if error.name != PACKAGE:
            warn_of_stock_operators(str(error))
        return None
    except (ImportError, AttributeError, OSError) as error:
        warn_of_stock_operators(str(error))
        return None
    return found


@functools.cache
def warn_of_stock_operators(reason: str) -> None:
    """Warn, once for each reason, that stock operators are used although the package is installed."""
    warn(
        f"the operators of minimind-edge-native do not load, ONNX Runtime's own are used: {reason}; install it again, "
        f"or set {SWITCH}=0"
    )
