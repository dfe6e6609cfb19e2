"""The graph that ONNX Runtime loads: where the file needs it, a copy in memory, without the weights.

A file is loaded as it is, unless its metadata names optional inputs or native operators take the place of stock ones.
The copy says where the weights lie in the graph's own file, which ONNX Runtime maps into memory, as it maps weights in
a file of their own.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from .graph_file import GraphFile, GraphInMemory
from .native_operators import native_graph
from .optional_inputs import input_of, optional_inputs


def graph_in_memory(
    path: str | os.PathLike[str], *, native: bool = False, outputs: Sequence[str] = ()
) -> GraphInMemory | None:
    """The graph of a file with its optional inputs, and with native operators.

    Args:
        path: The `.onnx` file.
        native: Whether native operators take the place of stock ones, where the graph's structure is known.
        outputs: Names of inner values that are to be outputs too.

    Returns:
        The graph; None where nothing of it is different from the file, or the file cannot be read, so that ONNX Runtime
        is to load the file itself.

    Raises:
        ArtifactError: The metadata names an input that this runtime does not know, that has no default or that the
            graph has already, or its weights lie outside of its folder or are missing.
    """
    file = Path(path)
    if not file.is_file():
        return None
    try:
        with GraphFile.open(file) as graph:
            names = optional_inputs(graph)
            changed = native_graph(graph, {name.encode() for name in (*names, *outputs)}) if native else None
            if not names and not outputs and changed is None:
                return None
            return graph.in_memory({name: input_of(name) for name in names}, outputs, changed)
    except (OSError, ValueError):  # empty, no protobuf, or text that is not UTF-8
        return None
