"""Files of graphs: that of a model, and a copy of one with a change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx

from minimind_edge.export.graph import build_graph, save_graph


def write_graph(
    folder: Path,
    model: Any,
    target: str = "ort",
    precision: str = "fp32",
    max_length: int = 64,
    *,
    name: str = "model",
    **options: Any,
) -> Path:
    """Write a model's graph to `NAME.onnx` in a folder; other options go to `build_graph`."""
    path = folder / f"{name}.onnx"
    save_graph(build_graph(model, target, precision, max_length, **options), path)
    return path


def changed_graph(path: Path, folder: Path, change: Callable[[onnx.ModelProto], object]) -> Path:
    """Write a copy of a graph with a change to a new folder, under the same name."""
    model = onnx.load(path)
    change(model)
    (folder / "changed").mkdir()
    onnx.save(model, folder / "changed" / path.name)
    return folder / "changed" / path.name
