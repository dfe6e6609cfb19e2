"""How a plan keeps its cache: as the graph at hand has it, and as the installed parser takes it."""

from __future__ import annotations

from minimind_edge.runtime.errors import MissingError, UsageError
from minimind_edge.runtime.tensorrt.backend import Backend

from ..errors import ExportError
from .engine_graph import EngineGraph
from .network import new_parser, takes_static_cache

CACHES = ("auto", "static", "growing")


def choose_cache_form(asked: str, backend: Backend) -> str:
    """The form that a graph is to have: `static` where the parser knows its operators, else `growing`.

    Args:
        asked: `auto`, or the form that is wanted.
        backend: TensorRT.

    Raises:
        MissingError: The static form was asked for, and this TensorRT is too old for it.
    """
    if asked == "growing":
        return asked
    logger = backend.logger()
    if takes_static_cache(backend, new_parser(backend, backend.module.Builder(logger), logger)):
        return "static"
    if asked == "auto":
        return "growing"
    raise MissingError(
        f"{backend.title} does not know TensorScatter (opset 24), which writes the cache in place: take --cache "
        "growing, or install a newer TensorRT"
    )


def check_cache_form(graph: EngineGraph, asked: str, chosen: str, backend: Backend) -> None:
    """See that a graph which is there already has a form that will do; every parser takes the growing one.

    Args:
        graph: To build from.
        asked: `auto`, or the form that is wanted.
        chosen: From `choose_cache_form`.
        backend: TensorRT.

    Raises:
        UsageError: It is not the form that was asked for.
        ExportError: The parser is too old for it.
    """
    if graph.cache_form in (chosen, asked) or (asked, graph.cache_form) == ("auto", "growing"):
        return
    if asked != "auto":
        raise UsageError(
            f"{graph.path} has a {graph.cache_form} cache, not a {asked} one: leave --cache out, or export the "
            f"checkpoint with `minimind-export onnx --target tensorrt --cache {asked}`"
        )
    raise ExportError(
        f"{backend.title} does not know TensorScatter (opset 24), which writes the cache of {graph.path} in place: "
        "export the checkpoint with `minimind-export onnx --target tensorrt --cache growing`"
    )
