"""From a graph to TensorRT's network, with errors that name the node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from minimind_edge.runtime.tensorrt.backend import Backend, error_text

from ..errors import ExportError

MOST_ERRORS = 3
"""Parser errors that are told; what follows the first ones is mostly their consequence."""


def parse_network(backend: Backend, builder: Any, logger: Any, graph: bytes, path: Path) -> tuple[Any, Any]:
    """Parse a graph into a strongly typed network.

    Args:
        backend: TensorRT.
        builder: Its builder.
        logger: A collecting one.
        graph: The graph, ready for the parser.
        path: Where it came from: weights beside it are found by that.

    Returns:
        The network, and the parser, which must live as long as the network.

    Raises:
        ExportError: The parser does not take a node.
    """
    network = builder.create_network(_network_flags(backend))
    parser = backend.module.OnnxParser(network, logger)
    if parser.parse(graph, str(path)):
        return network, parser
    errors = [_worded(parser.get_error(index)) for index in range(min(parser.num_errors, MOST_ERRORS))]
    raise ExportError(
        f"{backend.title} cannot parse {path}: {'; '.join(errors) or error_text(logger)}; {_remedy(backend, parser)}"
    )


def takes_static_cache(backend: Backend, parser: Any) -> bool:
    """Whether this TensorRT's parser knows the operator that writes a cache in place."""
    return bool(parser.supports_operator("TensorScatter"))


def new_parser(backend: Backend, builder: Any, logger: Any) -> Any:
    """A parser that has parsed nothing yet, to be asked what it can."""
    return backend.module.OnnxParser(builder.create_network(_network_flags(backend)), logger)


def _network_flags(backend: Backend) -> int:
    """Strong typing: types are the graph's own, which is the only way there is from TensorRT 11 on."""
    flag = getattr(backend.module.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _worded(error: Any) -> str:
    """A parser error: the node, its operator and what is wrong."""
    text = " ".join(error.desc().split())
    name, operator = error.node_name(), error.node_operator()
    return f"node {name!r} ({operator}): {text}" if operator else text


def _remedy(backend: Backend, parser: Any) -> str:
    if takes_static_cache(backend, parser):
        return "export the checkpoint again with this version, and report the message if it stays"
    return "this TensorRT is older than opset 24 of ONNX: take --cache growing, or install a newer one"
