"""From a checkpoint to verified ONNX artifacts and TensorRT plans.

    from minimind_edge.export import ExportRequest, export_onnx

    result = export_onnx(ExportRequest(checkpoint=Path("full_sft_512.pth"), output=Path("my-model")))

Names are imported when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .errors import ExportError, ParityError
    from .graph import build_graph, save_graph
    from .inspection import inspect_path
    from .pipeline import export_onnx
    from .request import ExportRequest, ExportResult
    from .verification import Verification, verify_artifact

_MODULES = {
    "ExportError": "errors",
    "ExportRequest": "request",
    "ExportResult": "request",
    "ParityError": "errors",
    "Verification": "verification",
    "build_graph": "graph",
    "export_onnx": "pipeline",
    "inspect_path": "inspection",
    "save_graph": "graph",
    "verify_artifact": "verification",
}

__all__ = [
    "ExportError",
    "ExportRequest",
    "ExportResult",
    "ParityError",
    "Verification",
    "build_graph",
    "export_onnx",
    "inspect_path",
    "save_graph",
    "verify_artifact",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)
