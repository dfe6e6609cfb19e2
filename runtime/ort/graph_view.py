"""A graph as a matcher of patterns sees it: which node made a value, and which values are constants."""

from __future__ import annotations

from collections import Counter

from .graph_file import GraphFile
from .graph_parts import Dims, Initializer, Node
from .protobuf import Field

MICROSOFT = b"com.microsoft"
"""The domain of ONNX Runtime's own operators."""

NATIVE_DOMAIN = b"minimind_edge"
"""The domain of the operators of minimind-edge-native."""


class NoMatchError(Exception):
    """A part of a graph has another structure than a pattern."""


def require(holds: bool) -> None:
    """End a match unless something holds.

    Raises:
        NoMatchError: It does not.
    """
    if not holds:
        raise NoMatchError


class GraphView:
    """A graph, by the names of its values.

    Args:
        graph: The graph.

    Attributes:
        graph: The same.

    Raises:
        NoMatchError: Two values have the same name.
    """

    def __init__(self, graph: GraphFile) -> None:
        self.graph = graph
        self._makers = {name: node for node in graph.nodes.values() for name in node.outputs if name}
        self._fields = {name: field for field, node in graph.nodes.items() for name in node.outputs if name}
        self._initializers = {tensor.name: tensor for tensor in graph.initializers}
        self._inputs = {value.name: value for value in graph.inputs}
        self._values = self._inputs | {value.name: value for value in graph.inner_values}
        # Only an initializer may have the name of an input, whose default it is.
        made = Counter(name for node in graph.nodes.values() for name in node.outputs if name)
        made.update(self._initializers.keys() | self._inputs.keys())
        require(len(self._initializers) == len(graph.initializers) and len(self._inputs) == len(graph.inputs))
        require(made.total() == len(made))

    def made(self, value: bytes, op_type: bytes, domain: bytes = b"") -> Node:
        """The node that makes a value, which must be of this operator.

        Raises:
            NoMatchError: Another node does, or none.
        """
        node = self._makers.get(value)
        if node is None or node.op_type != op_type or node.domain != domain:
            raise NoMatchError
        return node

    def field(self, value: bytes) -> Field:
        """The field of the node that makes a value."""
        return self._fields[value]

    def require_unused(self, name: bytes) -> None:
        """See that no value has this name.

        Raises:
            NoMatchError: One has.
        """
        require(not any(name in each for each in (self._makers, self._initializers, self._values)))

    def constant(self, name: bytes) -> Initializer:
        """The initializer of this name, which no caller can replace.

        Raises:
            NoMatchError: There is none, or it is the default of an input.
        """
        found = self._initializers.get(name)
        if found is None or name in self._inputs:
            raise NoMatchError
        return found

    def numbers(self, name: bytes) -> tuple[float, ...]:
        """The numbers of a small constant.

        Raises:
            NoMatchError: It is no constant, or large.
        """
        found = self.constant(name).numbers()
        if found is None:
            raise NoMatchError
        return found

    def input_type(self, name: bytes) -> tuple[int, Dims]:
        """The number of an input's element type, and its axes.

        Raises:
            NoMatchError: It is no input that must be given, or its type is unknown.
        """
        require(name in self._inputs and name not in self._initializers)
        return self.type_of(name)

    def type_of(self, name: bytes) -> tuple[int, Dims]:
        """The number of the element type, and the axes, of an input or an inner value.

        Raises:
            NoMatchError: They are unknown.
        """
        found = self._values[name].type if name in self._values else None
        if found is None:
            raise NoMatchError
        return found
