"""Reading a graph that anybody may have written: a message of ONNX whose text is text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from minimind_edge.runtime.errors import ArtifactError

if TYPE_CHECKING:
    import onnx


def read_graph(path: Path) -> onnx.ModelProto:
    """Read a graph without the weights that lie in other files.

    Raises:
        ArtifactError: It cannot be read, is no ONNX graph, or has a name that is not UTF-8.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        model = onnx.load(str(path), load_external_data=False)
    except DecodeError as error:
        raise ArtifactError(f"{path} is not an ONNX graph: {error}; export the checkpoint again") from error
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror or error}") from error
    if not model.opset_import or not model.graph.output:
        raise ArtifactError(f"{path} is not an ONNX graph: it has no outputs; export the checkpoint again")
    _require_text(model, path)
    return model


def _require_text(message: Any, path: Path) -> None:
    """See that every string is one; protobuf gives what is not UTF-8 as bytes."""
    for field, value in message.ListFields():
        values = [value] if isinstance(value, (str, bytes)) or not hasattr(value, "__len__") else value
        if field.type == field.TYPE_MESSAGE:
            for each in values:
                _require_text(each, path)
        elif field.type == field.TYPE_STRING and any(isinstance(each, bytes) for each in values):
            raise ArtifactError(f"{path} has a {field.name} that is not UTF-8; export the checkpoint again")
