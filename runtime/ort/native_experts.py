"""The pattern of a mixture of experts with quantized weights in graphs of target `ort`.

The exporter sorts the choices of all tokens by their expert, so that each expert multiplies only its own rows, with
rows of zeros where ONNX Runtime's kernels need an even number. `GatherByExpert` and `ScatterByExpert` take the place of
the nodes that sort, and each expert's SwiGLU is part of its first product. The operators compute each row by itself, so
that they need no rows of zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from .graph_parts import FLOAT, INT64, Node
from .graph_view import MICROSOFT, NATIVE_DOMAIN, GraphView, NoMatchError, require
from .native_products import gated_matmul, quantized_matmul, swiglu
from .protobuf import Field


@dataclass(frozen=True)
class Experts:
    """What takes the place of a block's experts.

    Attributes:
        nodes: The new nodes in place of those that are replaced.
        unread: The SwiGLU of all experts together, which nothing reads any more.
    """

    nodes: dict[Field, Node]
    unread: Field


def native_experts(view: GraphView, result: Node) -> Experts:
    """`GatherByExpert`, `ScatterByExpert` and the products between them in place of a block's experts.

    Args:
        view: The graph.
        result: The `Slice` that leaves the choices and drops the rows of zeros.

    Raises:
        NoMatchError: It is something else, or a product is not quantized.
    """
    require((result.op_type, result.domain, len(result.inputs)) == (b"Slice", b"", 4))
    scattered, start, count, axis = result.inputs
    require(view.numbers(start) == view.numbers(axis) == (0,))
    scatter = view.made(scattered, b"ScatterND")
    require(not scatter.attributes)
    rows, order, outputs = scatter.inputs
    down = _concatenated(view, outputs)
    gated, down_sizes = _split(view, [node.inputs[0] for node in down])
    together = swiglu(view, view.made(gated, b"Mul"))
    up = _concatenated(view, together.inputs[0])
    grouped, up_sizes = _split(view, [node.inputs[0] for node in up])
    require(grouped == rows and down_sizes == up_sizes and len(up) == len(down))
    chosen = _sorted(view, order, up_sizes, len(up))
    size = view.made(count, b"Shape")
    require(size.inputs == (chosen,) and not size.attributes)
    x, choices = _gathered(view, rows, order)

    experts = {b"experts": len(up)}
    gather = Node(
        b"GatherByExpert",
        (x, chosen),
        tuple(node.inputs[0] for node in up),
        NATIVE_DOMAIN,
        result.name + b".gather",
        {**experts, b"choices": choices},
    )
    made = tuple(name for node in down for name in node.outputs)
    scatter = Node(b"ScatterByExpert", (chosen, *made), result.outputs, NATIVE_DOMAIN, result.name, experts)
    new = {view.field(up[0].inputs[0]): gather, view.field(result.outputs[0]): scatter}
    for first, second in zip(up, down, strict=True):
        inner = first.outputs[0] + b".gated"
        view.require_unused(inner)
        as_swiglu = Node(b"SwiGLU", first.outputs, (inner,))
        new[view.field(first.outputs[0])] = gated_matmul(view, as_swiglu)
        product = quantized_matmul(view, second)
        new[view.field(second.outputs[0])] = replace(product, inputs=(inner, *product.inputs[1:]))
    return Experts(new, view.field(gated))


def _concatenated(view: GraphView, value: bytes) -> list[Node]:
    """The products whose rows a value has, one expert's after the other's."""
    concat = view.made(value, b"Concat")
    require(concat.attributes == {b"axis": 0})
    return [view.made(name, b"MatMulNBits", MICROSOFT) for name in concat.inputs]


def _split(view: GraphView, parts: Sequence[bytes]) -> tuple[bytes, bytes]:
    """The value that is split to these parts, and the sizes of the parts."""
    split = view.made(parts[0], b"Split")
    require(split.outputs == tuple(parts) and split.attributes == {b"axis": 0} and len(split.inputs) == 2)
    return split.inputs[0], split.inputs[1]


def _sorted(view: GraphView, order: bytes, sizes: bytes, experts: int) -> bytes:
    """The experts of all choices, by which `order` sorts the choices; `sizes` counts each expert's, zeros included.

    The rows of zeros have the place after the last choice, wherever they come from: what is made of them is dropped.
    """
    column = view.made(order, b"Reshape")
    split = view.made(column.inputs[0], b"Split")
    require(view.numbers(column.inputs[1]) == (-1, 1) and split.attributes == {b"axis": 0, b"num_outputs": 2})
    require(split.outputs[1] == column.inputs[0])
    is_row = view.made(split.inputs[0], b"NonZero").inputs[0]
    total = view.made(sizes, b"ReduceSum")
    require(total.inputs[0] == is_row and total.attributes == {b"keepdims": 0})
    require(view.numbers(total.inputs[1]) == (1,))
    concat = view.made(is_row, b"Concat")
    require(concat.attributes == {b"axis": 1} and len(concat.inputs) == 2)
    one_hot = view.made(concat.inputs[0], b"OneHot")
    chosen, depth, values = one_hot.inputs
    require(one_hot.attributes == {b"axis": 0} and view.numbers(depth) == (experts,))
    require(view.numbers(values) == (0, 1))
    kind, dims = view.type_of(chosen)
    require(kind == INT64 and len(dims) == 1)
    return chosen


def _gathered(view: GraphView, rows: bytes, order: bytes) -> tuple[bytes, int]:
    """The tokens of which `rows` has one for each choice in `order`, and the number of each token's choices."""
    gather = view.made(rows, b"GatherND")
    require(not gather.attributes)
    padded, tokens = gather.inputs
    choices = 1
    if tokens != order:
        quotient = view.made(tokens, b"Div")
        require(quotient.inputs[0] == order)
        choices = _whole(view.numbers(quotient.inputs[1]))
    concat = view.made(padded, b"Concat")
    require(concat.attributes == {b"axis": 0} and len(concat.inputs) == 2)
    flat = view.made(concat.inputs[0], b"Reshape")
    x, shape = flat.inputs
    kind, dims = view.type_of(x)
    require(kind == FLOAT and len(dims) > 1 and view.numbers(shape) == (-1, dims[-1]) and not flat.attributes)
    return x, choices


def _whole(numbers: tuple[float, ...]) -> int:
    """The one number, which is a whole one of at least 1.

    Raises:
        NoMatchError: It is not.
    """
    if len(numbers) != 1 or not isinstance(numbers[0], int) or numbers[0] < 1:
        raise NoMatchError
    return numbers[0]
