"""The Python bindings of the two backends: `tensorrt` (full TensorRT, 10.x and 11.x) and `rtx` (TensorRT-RTX)."""

from __future__ import annotations

import ctypes
import importlib.util
import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import MissingError
from .plan import BACKEND_NAMES

MODULES = {"tensorrt": ("tensorrt", "tensorrt_bindings"), "rtx": ("tensorrt_rtx", "tensorrt_rtx_bindings")}
"""The modules that contain the bindings, by backend, in order of preference."""

RTX_LIBRARY_WHEEL = "onnxruntime_ep_nv_tensorrt_rtx"
"""The module of ONNX Runtime's RTX provider, whose wheel contains TensorRT-RTX's own libraries."""

RTX_LIBRARIES = ("libtensorrt_rtx.so.*", "libtensorrt_onnxparser_rtx.so.*")
"""The file name patterns of TensorRT-RTX's libraries, in the order in which they must be loaded."""

INSTALL = {
    "tensorrt": "pip install 'minimind-edge[tensorrt]'",
    "rtx": "pip install 'minimind-edge[rtx]'",
}

INFO = 3
"""The severity from which on messages are dropped: INTERNAL_ERROR 0, ERROR 1, WARNING 2, INFO 3, VERBOSE 4."""


@dataclass(frozen=True)
class Backend:
    """TensorRT's Python bindings.

    Attributes:
        name: `tensorrt` or `rtx`.
        module: The bindings.
    """

    name: str
    module: ModuleType

    @property
    def title(self) -> str:
        """The backend's name and version, for messages."""
        return f"{BACKEND_NAMES[self.name]} {self.version}"

    @property
    def version(self) -> str:
        """The version of the bindings, such as 1.7.1.116."""
        return str(self.module.__version__)

    def logger(self) -> Any:
        """A logger that prints nothing and keeps warnings and errors in its `messages`, as (severity, text)."""

        class CollectingLogger(self.module.ILogger):  # type: ignore[name-defined, misc]
            def __init__(self) -> None:
                super().__init__()
                self.messages: list[tuple[int, str]] = []

            def log(self, severity: Any, message: str) -> None:
                if int(severity) < INFO:
                    self.messages.append((int(severity), message))

        return CollectingLogger()


def load_backend(name: str) -> Backend:
    """Import the bindings of a backend.

    Args:
        name: `tensorrt` or `rtx`.

    Raises:
        MissingError: The bindings, or the libraries that they need, are not installed.
    """
    if name == "rtx":
        _preload_rtx_libraries()
    found = [module for module in MODULES[name] if importlib.util.find_spec(module)]
    failures = []
    for module in found:
        try:
            bindings = import_module(module)
        except ImportError as error:
            failures.append(str(error))
            continue
        # A damaged or half-uninstalled package imports as an empty namespace.
        if hasattr(bindings, "Runtime"):
            return Backend(name, bindings)
    reason = f"its bindings do not load ({failures[0]})" if failures else "it is not installed"
    raise MissingError(f"{BACKEND_NAMES[name]} cannot be used: {reason}; run `{INSTALL[name]}`")


def has_backend(name: str) -> bool:
    """Whether the bindings of a backend are installed; they may still fail to load."""
    return any(importlib.util.find_spec(module) for module in MODULES[name])


def rtx_libraries() -> list[Path]:
    """TensorRT-RTX's libraries in the order to load them; empty where their wheel is not installed."""
    spec = importlib.util.find_spec(RTX_LIBRARY_WHEEL)
    if spec is None or spec.origin is None:
        return []
    folder = Path(spec.origin).parent
    return [path for pattern in RTX_LIBRARIES for path in sorted(folder.glob(pattern))[:1]]


def error_text(logger: Any) -> str:
    """The first error that a collecting logger received, or its first warning where there is no error."""
    messages = logger.messages
    errors = [text for severity, text in messages if severity <= 1] or [text for _, text in messages]
    return errors[0] if errors else "TensorRT gives no reason"


def _preload_rtx_libraries() -> None:
    """Load the libraries, because the bindings look for them on the system's path only."""
    if sys.platform != "linux":
        return
    for path in rtx_libraries():
        try:
            ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
        except OSError as error:
            raise MissingError(f"TensorRT-RTX cannot be used: {path} does not load: {error}") from error
