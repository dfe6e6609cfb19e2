"""A graph's facts by ONNX Runtime alone, for machines without the package onnx."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minimind_edge.runtime.errors import ArtifactError, MissingError

DTYPES = {"float": "float32", "double": "float64"}
"""The element types that ONNX Runtime names in another way than NumPy."""


@dataclass(frozen=True)
class RuntimeGraph:
    """What ONNX Runtime tells about a graph that it has loaded.

    Attributes:
        producer: The tool that wrote the graph.
        metadata: The graph's `metadata_props`.
        inputs: Name, dtype and shape of each input, without weights.
        outputs: Name, dtype and shape of each output.
    """

    producer: str
    metadata: dict[str, str]
    inputs: tuple[tuple[str, str, tuple[int | str | None, ...]], ...]
    outputs: tuple[tuple[str, str, tuple[int | str | None, ...]], ...]


def read_by_runtime(path: Path) -> RuntimeGraph:
    """Load a graph as it is, without optimizing it, and read its interface and metadata.

    Raises:
        ArtifactError: There is no such file, or it is not an ONNX graph that ONNX Runtime loads.
        MissingError: ONNX Runtime has no operators for the graph's types.
    """
    from minimind_edge.runtime.ort.environment import import_onnxruntime
    from minimind_edge.runtime.ort.loading import onnxruntime_errors, session_options, summary

    if not path.is_file():
        raise ArtifactError(f"cannot read {path}: there is no such file")
    onnxruntime = import_onnxruntime()
    options = session_options(onnxruntime, threads=1)
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        model = session.get_modelmeta()
        return RuntimeGraph(
            producer=model.producer_name,
            metadata=dict(model.custom_metadata_map),
            inputs=_tensors(session.get_inputs()),
            outputs=_tensors(session.get_outputs()),
        )
    except UnicodeDecodeError as error:  # the bindings decode a name when it is asked for
        raise ArtifactError(f"{path} has a name that is not UTF-8; export the checkpoint again") from error
    except onnxruntime_errors(onnxruntime) as error:
        if "Could not find an implementation" in str(error):
            raise MissingError(
                f"this ONNX Runtime cannot load {path}: its facts are read with the package onnx (pip install onnx)"
            ) from error
        raise ArtifactError(f"{path} is not an ONNX graph that can be read: {summary(error)}") from error


def _tensors(nodes: Sequence[Any]) -> tuple[tuple[str, str, tuple[int | str | None, ...]], ...]:
    return tuple((node.name, _dtype(node.type), tuple(node.shape)) for node in nodes)


def _dtype(kind: str) -> str:
    """The name of an element type as NumPy spells it, from ONNX Runtime's `tensor(float)`."""
    name = kind.removeprefix("tensor(").removesuffix(")")
    return DTYPES.get(name, name)
