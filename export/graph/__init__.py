"""From a model to an ONNX graph, in the dialect of a target."""

from __future__ import annotations

from .build import build_graph
from .onnx_file import save_graph

__all__ = ["build_graph", "save_graph"]
