"""Native operators in place of stock ones, in the graphs of target `ort` that this version's exporter writes.

The operators are those of the optional package minimind-edge-native: `CachedAttention`, which takes the place of
`GroupQueryAttention`, of the nodes that prepare its lengths and its bias, and of the norms of queries and keys;
`QuantizedMatMul`; `GatherByExpert` and `ScatterByExpert`; `SkipRMSNorm`; and `SwiGLU`. Attention is replaced in every
block or nowhere, and without it nothing is; each of the other nodes is replaced by itself, and a
mixture's experts together. Every fact that the native operator relies on is looked up in the graph, and where one is
missing, the node stays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import suppress

from ..session.contract import METADATA_PREFIX, NATIVE, OPTIONAL_INPUTS_PROPERTY
from .graph_file import GraphFile, NativeGraph
from .graph_parts import FLOAT, Node
from .graph_view import MICROSOFT, NATIVE_DOMAIN, GraphView, NoMatchError, require
from .native_attention import Step, cached_attention
from .native_experts import native_experts
from .native_products import gated_matmul, quantized_matmul, swiglu
from .protobuf import Field

OPSETS = {(b"", 23), (MICROSOFT, 1)}
"""The operators of the graphs that are known: those of the exporter's `ort` dialect."""

PRECISIONS = {b"fp32", b"int8", b"int4"}
"""The precisions in which the dialect computes in float32."""


def native_graph(graph: GraphFile, kept: Collection[bytes] = ()) -> NativeGraph | None:
    """What takes the place of a graph's stock operators.

    Args:
        graph: The graph.
        kept: Names of values that are read from outside of the graph, in addition to its outputs.

    Returns:
        The new nodes, and what nothing reads any more; None where the graph is to stay as it is.
    """
    try:
        if not _is_known(graph):
            return None
        view = GraphView(graph)
        steps: dict[tuple[bytes, ...], Step] = {}
        attention = {
            field: cached_attention(view, node, steps)
            for field, node in graph.nodes.items()
            if (node.op_type, node.domain) == (b"GroupQueryAttention", MICROSOFT)
        }
        if not attention:
            return None
        nodes = attention | _others(view)
        dropped = frozenset(_dropped(graph, nodes, kept))
    except (NoMatchError, ValueError):  # another structure, or no protobuf
        return None
    return NativeGraph(nodes, dropped, NATIVE_DOMAIN, NATIVE)


def _is_known(graph: GraphFile) -> bool:
    """Whether a graph says that it is of the dialect and the operators' versions that are known here."""
    return (
        OPTIONAL_INPUTS_PROPERTY.encode() in graph.metadata
        and graph.metadata.get(f"{METADATA_PREFIX}target".encode()) == b"ort"
        and graph.metadata.get(f"{METADATA_PREFIX}precision".encode()) in PRECISIONS
        and len(graph.opsets) == len(OPSETS)
        and set(graph.opsets) == OPSETS
        and not graph.has_functions
        and not any(node.has_subgraph for node in graph.nodes.values())
    )


def _others(view: GraphView) -> dict[Field, Node]:
    """The new nodes in place of those that are replaced one by one."""
    new: dict[Field, Node] = {}
    for field, node in view.graph.nodes.items():
        if (match := MATCHES.get(node.op_type)) is None:
            continue
        with suppress(NoMatchError):
            new[field] = match(view, node)
    for node in view.graph.nodes.values():
        with suppress(NoMatchError):
            experts = native_experts(view, node)
            new.update(experts.nodes)
            del new[experts.unread]
    gated = {node.inputs for node in new.values() if node.attributes.get(b"swiglu")}
    return {field: node for field, node in new.items() if node.attributes.get(b"swiglu") or node.inputs not in gated}


def _skip_rms_norm(view: GraphView, node: Node) -> Node:
    """`SkipRMSNorm` in place of the operator that adds and normalises.

    Raises:
        NoMatchError: The operator has a bias, broadcasts, or is not in float32.
    """
    require(node.domain == MICROSOFT and len(node.inputs) == 3 and set(node.attributes) == {b"epsilon"})
    x, skip, _ = node.inputs
    kind, dims = view.type_of(x)
    require(kind == FLOAT and len(dims) == 3 and view.type_of(skip) == (kind, dims))
    normalized, *more = node.outputs
    require(more in ([], [b""], [b"", b""]) or (len(more) == 3 and more[:2] == [b"", b""]))
    total = more[2] if len(more) == 3 else b""
    outputs = (normalized, total) if total else (normalized,)
    return Node(b"SkipRMSNorm", node.inputs, outputs, NATIVE_DOMAIN, node.name, node.attributes)


def _gated(view: GraphView, node: Node) -> Node:
    """`SwiGLU`, or the product before it with SwiGLU in it."""
    found = swiglu(view, node)
    try:
        return gated_matmul(view, found)
    except NoMatchError:
        return found


MATCHES = {
    b"SkipSimplifiedLayerNormalization": _skip_rms_norm,
    b"Mul": _gated,
    b"MatMulNBits": quantized_matmul,
}
"""What finds the native operator in place of a node, by the node's operator."""


def _dropped(graph: GraphFile, new: dict[Field, Node], kept: Collection[bytes]) -> Iterator[Field]:
    """The fields of nodes and initializers that nothing reads any more, once the new nodes are in place.

    Args:
        graph: The graph.
        new: The new node in place of each that is replaced.
        kept: Names of values that are read from outside.
    """
    nodes = graph.nodes
    reads = Counter(name for field, node in nodes.items() for name in new.get(field, node).inputs)
    reads.update(value.name for value in graph.outputs)
    reads.update(kept)
    makers = {name: field for field, node in nodes.items() if field not in new for name in node.outputs if name}
    initializers = {tensor.name: tensor.field for tensor in graph.initializers}
    unread = {name for field in new for name in nodes[field].inputs if not reads[name]}
    while unread:
        name = unread.pop()
        maker = makers.get(name)
        if maker is None:
            if name in initializers:
                yield initializers.pop(name)
            continue
        if any(reads[each] for each in nodes[maker].outputs if each):
            continue
        yield maker
        for each in nodes[maker].outputs:
            makers.pop(each, None)
        reads.subtract(nodes[maker].inputs)
        unread.update(each for each in nodes[maker].inputs if each and not reads[each])
