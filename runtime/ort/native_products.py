"""The products of graphs of target `ort` with quantized weights, as far as `QuantizedMatMul` computes the same."""

from __future__ import annotations

from .graph_parts import FLOAT, FLOAT16, UINT8, Node
from .graph_view import MICROSOFT, NATIVE_DOMAIN, GraphView, NoMatchError, require

BITS = {4, 8}
"""The sizes of a weight's numbers for which the operator has kernels."""

BLOCKS = {16, 32, 64, 128, 256}
"""The numbers of a column that have one scale, for which it has kernels."""

INT8_ACTIVATIONS = 4
"""The accuracy level of `MatMulNBits` which lets it quantize its activations to int8, in the weight's blocks."""

GATED_COLUMNS = 32
"""The columns of a product with SwiGLU are a multiple of this: two vectors of the widest kind."""


def quantized_matmul(view: GraphView, node: Node) -> Node:
    """`QuantizedMatMul` in place of a `MatMulNBits`.

    Args:
        view: The graph.
        node: The `MatMulNBits`.

    Raises:
        NoMatchError: The native operator does not compute the same, or the weight is no constant.
    """
    require((node.op_type, node.domain) == (b"MatMulNBits", MICROSOFT))
    require(set(node.attributes) == {b"K", b"N", b"bits", b"block_size", b"accuracy_level"})
    width, columns, bits, block = (_size(node, name) for name in (b"K", b"N", b"bits", b"block_size"))
    require(bits in BITS and block in BLOCKS and node.attributes[b"accuracy_level"] == INT8_ACTIVATIONS)
    require(len(node.inputs) in (3, 4) and all(node.inputs[:3]) and len(node.outputs) == 1)
    kind, dims = view.type_of(node.inputs[0])
    require(kind == FLOAT and len(dims) > 0 and dims[-1] == width)
    weight, scales, *zeros = (name for name in node.inputs[1:] if name)
    blocks = -(-width // block)
    _require_constant(view, weight, UINT8, (columns, blocks, block * bits // 8))
    _require_scales(view, scales, (columns, blocks))
    for each in zeros:
        _require_constant(view, each, UINT8, (columns, -(-blocks * bits // 8)))
    return Node(
        b"QuantizedMatMul",
        (node.inputs[0], weight, scales, *zeros),
        node.outputs,
        NATIVE_DOMAIN,
        node.name,
        {b"K": width, b"N": columns, b"bits": bits, b"block_size": block, b"swiglu": 0},
    )


def swiglu(view: GraphView, node: Node) -> Node:
    """`SwiGLU` in place of the last of `Split`, `Sigmoid`, and two of `Mul`.

    Raises:
        NoMatchError: The node is another product, the halves are not of one width, or it is not in float32.
    """
    require(node.domain == b"" and len(node.inputs) == 2)
    activated, up = node.inputs
    product = view.made(activated, b"Mul")
    gate, sigmoid = product.inputs
    require(view.made(sigmoid, b"Sigmoid").inputs == (gate,))
    split = view.made(up, b"Split")
    require(split.outputs == (gate, up) and split.attributes == {b"axis": -1, b"num_outputs": 2})
    require(len(split.inputs) == 1)
    kind, dims = view.type_of(split.inputs[0])
    width = dims[-1] if dims else 0
    require(kind == FLOAT and isinstance(width, int) and width > 0 and width % 2 == 0)
    return Node(b"SwiGLU", split.inputs, node.outputs, NATIVE_DOMAIN, node.name)


def gated_matmul(view: GraphView, gate: Node) -> Node:
    """`QuantizedMatMul` with SwiGLU in place of both.

    Args:
        view: The graph.
        gate: A `SwiGLU`.

    Raises:
        NoMatchError: Its input is no product with a quantized weight, or one of another width.
    """
    product = quantized_matmul(view, view.made(gate.inputs[0], b"MatMulNBits", MICROSOFT))
    columns = product.attributes[b"N"]
    require(isinstance(columns, int) and columns % GATED_COLUMNS == 0)
    attributes = {**product.attributes, b"swiglu": 1}
    return Node(product.op_type, product.inputs, gate.outputs, product.domain, product.name, attributes)


def _size(node: Node, name: bytes) -> int:
    """An attribute that is a whole number of at least 1.

    Raises:
        NoMatchError: It is not.
    """
    size = node.attributes[name]
    if not isinstance(size, int) or size < 1:
        raise NoMatchError
    return size


def _require_constant(view: GraphView, name: bytes, data_type: int, dims: tuple[int, ...]) -> None:
    """See that a value is a constant of this element type and shape."""
    tensor = view.constant(name)
    require(tensor.data_type == data_type and tensor.dims == dims)


def _require_scales(view: GraphView, name: bytes, dims: tuple[int, ...]) -> None:
    """See that scales are constants in float32, or such in float16, which ONNX Runtime widens when it loads a graph."""
    try:
        _require_constant(view, name, FLOAT, dims)
    except NoMatchError:
        cast = view.made(name, b"Cast")
        require(cast.attributes == {b"to": FLOAT} and len(cast.inputs) == 1)
        _require_constant(view, cast.inputs[0], FLOAT16, dims)
