"""The pattern of attention in graphs of target `ort`, as far as `CachedAttention` computes the same."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..session.contract import ATTENTION_MASK, INPUT_IDS, POSITION_IDS
from .graph_parts import BOOL, FLOAT, INT32, Node
from .graph_view import NATIVE_DOMAIN, GraphView, NoMatchError, require

HEAD_DIMS = {64, 96, 128}
"""The widths of a head for which the operator has a kernel."""

HIDDEN = -1e30
"""The largest number which, added to a score, hides a key: the softmax of float32 makes it 0."""

INPUTS = 17
"""The inputs of `GroupQueryAttention` as the exporter writes it, up to `query_seqlens`."""

IDS, MASK, POSITIONS = INPUT_IDS.encode(), ATTENTION_MASK.encode(), POSITION_IDS.encode()


@dataclass(frozen=True)
class Step:
    """The inputs of attention that all blocks share.

    Attributes:
        row_lengths: The value that limits the slots of each row.
        row_tokens: The value that limits the tokens of each row.
    """

    row_lengths: bytes
    row_tokens: bytes

    @classmethod
    def of(cls, view: GraphView, inputs: Sequence[bytes], dim: int) -> Step:
        """Check where the inputs of a `GroupQueryAttention` come from, queries, keys, values and cache excepted.

        Raises:
            NoMatchError: Elsewhere than in graphs of the exporter.
        """
        seqlens, total, cos, sin, positions, bias, sinks = inputs[5:12]
        _require_mask_bias(view, bias)
        _require_cast_size(view, total, MASK, 1)
        require(positions == POSITIONS)
        view.input_type(positions)
        for table in (cos, sin):
            tensor = view.constant(table)
            require(tensor.data_type == FLOAT and len(tensor.dims) == 2 and tensor.dims[1] == dim // 2)
        if sinks:
            require(view.constant(sinks).data_type == FLOAT and all(each <= HIDDEN for each in view.numbers(sinks)))
        return cls(_row_lengths(view, seqlens), _row_tokens(view, inputs[16]))


def cached_attention(view: GraphView, node: Node, steps: dict[tuple[bytes, ...], Step]) -> Node:
    """`CachedAttention` in place of a `GroupQueryAttention`.

    The empty attention sinks, which only choose one of ONNX Runtime's kernels, have no place in it, and neither has the
    bias, which is the attention mask in another form.

    Args:
        view: The graph.
        node: The `GroupQueryAttention`.
        steps: What is known about the inputs that blocks share, to which this adds.

    Raises:
        NoMatchError: The node has something that the native operator does not compute, or inputs of other origin.
    """
    require(set(node.attributes) == {b"num_heads", b"kv_num_heads", b"scale", b"do_rotary"})
    require(node.attributes[b"do_rotary"] == 1 and len(node.inputs) == INPUTS and not any(node.inputs[12:16]))
    require(len(node.outputs) == 3 and all(node.outputs))
    query, key, value, past_key, past_value, _, _, cos, sin, positions = node.inputs[:10]
    heads, kv_heads, dim = _cache_sizes(view, node)
    shared = (*node.inputs[5:], b"%d" % dim)
    if (step := steps.get(shared)) is None:
        step = steps[shared] = Step.of(view, node.inputs, dim)
    packed, norms, epsilon = query, (b"", b""), 0.0
    if key or value:
        packed, norms, epsilon = _normalised(view, (query, key, value), (heads, kv_heads, dim))
    width = (heads + 2 * kv_heads) * dim
    kind, dims = view.type_of(packed)
    require(kind == FLOAT and len(dims) == 3 and dims[2] == width)
    scale = node.attributes[b"scale"]
    if not isinstance(scale, float) or not math.isfinite(scale):
        raise NoMatchError
    return Node(
        b"CachedAttention",
        (packed, past_key, past_value, MASK, step.row_lengths, step.row_tokens, cos, sin, positions, *norms),
        node.outputs,
        NATIVE_DOMAIN,
        node.name,
        {
            b"num_heads": heads,
            b"kv_num_heads": kv_heads,
            b"scale": scale or 1 / math.sqrt(dim),  # the stock operator takes 0 for this
            b"epsilon": epsilon,
        },
    )


def _cache_sizes(view: GraphView, node: Node) -> tuple[int, int, int]:
    """The heads of queries, those of keys and values, and their width, by attributes and by a float32 cache.

    Raises:
        NoMatchError: They contradict each other, or there is no kernel for them.
    """
    heads, kv_heads = node.attributes[b"num_heads"], node.attributes[b"kv_num_heads"]
    key, value = (view.input_type(name) for name in node.inputs[3:5])
    if not isinstance(heads, int) or not isinstance(kv_heads, int) or key != value:
        raise NoMatchError
    kind, dims = key
    require(kind == FLOAT and len(dims) == 4 and dims[1] == kv_heads and kv_heads > 0)
    dim = dims[3]
    if not isinstance(dim, int) or dim not in HEAD_DIMS or heads <= 0 or heads % kv_heads:
        raise NoMatchError
    return heads, kv_heads, dim


def _require_mask_bias(view: GraphView, bias: bytes) -> None:
    """See that a bias of the scores hides the slots of `attention_mask` and does nothing else.

    Raises:
        NoMatchError: It does.
    """
    expand = view.made(bias, b"Expand")
    slots, shape = _two(expand)
    concat = view.made(shape, b"Concat")
    length, one = _two(concat)
    require(concat.attributes == {b"axis": 0} and view.numbers(one) == (1,))
    _require_size(view, length, IDS, 1)
    unsqueeze = view.made(slots, b"Unsqueeze")
    chosen, axes = _two(unsqueeze)
    require(view.numbers(axes) == (1, 2))
    where = view.made(chosen, b"Where")
    require(len(where.inputs) == 3)
    seen, shown, hidden = where.inputs
    cast = view.made(seen, b"Cast")
    require(cast.inputs == (MASK,) and cast.attributes == {b"to": BOOL})
    view.input_type(MASK)
    for name in (shown, hidden):
        require(view.constant(name).data_type == FLOAT and not view.constant(name).dims)
    require(view.numbers(shown) == (0,) and view.numbers(hidden)[0] <= HIDDEN)


def _row_lengths(view: GraphView, seqlens: bytes) -> bytes:
    """The value that limits the slots of each row, of the operator's input `seqlens_k`."""
    last, rows = _two(view.made(seqlens, b"Expand"))
    _require_size(view, rows, IDS, 0)
    lengths, one = _two(view.made(last, b"Sub"))
    require(view.numbers(one) == (1,) and not view.constant(one).dims)
    return _limit(view, lengths, MASK)


def _row_tokens(view: GraphView, query_seqlens: bytes) -> bytes:
    """The value that limits the tokens of each row, of the operator's input `query_seqlens`."""
    tokens, rows = _two(view.made(query_seqlens, b"Expand"))
    _require_size(view, rows, IDS, 0)
    return _limit(view, tokens, IDS)


def _limit(view: GraphView, value: bytes, tensor: bytes) -> bytes:
    """The other term of a `Min` whose first is the second axis of a tensor."""
    size, limit = _two(view.made(value, b"Min"))
    _require_cast_size(view, size, tensor, 1)
    return limit


def _require_cast_size(view: GraphView, value: bytes, tensor: bytes, axis: int) -> None:
    """See that a value is the size of a tensor's axis as an int32."""
    cast = view.made(value, b"Cast")
    require(cast.attributes == {b"to": INT32} and len(cast.inputs) == 1)
    _require_size(view, cast.inputs[0], tensor, axis)


def _require_size(view: GraphView, value: bytes, tensor: bytes, axis: int) -> None:
    """See that a value is the size of a tensor's axis."""
    shape = view.made(value, b"Shape")
    require(shape.inputs == (tensor,) and shape.attributes == {b"start": axis, b"end": axis + 1})


def _normalised(
    view: GraphView, values: tuple[bytes, bytes, bytes], sizes: tuple[int, int, int]
) -> tuple[bytes, tuple[bytes, bytes], float]:
    """The value whose parts are queries, keys and values, the weights of two norms, and their epsilon.

    Args:
        view: The graph.
        values: Queries and keys, each normalised head by head, and values.
        sizes: The heads of queries, those of keys and values, and their width.

    Raises:
        NoMatchError: Something else is done to them.
    """
    heads, kv_heads, dim = sizes
    query, q_weight, q_epsilon = _norm(view, values[0], heads, dim)
    key, k_weight, k_epsilon = _norm(view, values[1], kv_heads, dim)
    split = view.made(query, b"Split")
    require(split.outputs == (query, key, values[2]) and split.attributes == {b"axis": -1})
    packed, widths = _two(split)
    require(view.numbers(widths) == (heads * dim, kv_heads * dim, kv_heads * dim) and q_epsilon == k_epsilon)
    return packed, (q_weight, k_weight), q_epsilon


def _norm(view: GraphView, value: bytes, heads: int, dim: int) -> tuple[bytes, bytes, float]:
    """What is normalised head by head, the norm's weight and its epsilon."""
    joined, shape = _two(view.made(value, b"Reshape"))
    require(view.numbers(shape) == (0, 0, heads * dim))
    norm = view.made(joined, b"RMSNormalization")
    separate, weight = _two(norm)
    require(set(norm.attributes) == {b"axis", b"epsilon"} and norm.attributes[b"axis"] == -1)
    source, shape = _two(view.made(separate, b"Reshape"))
    require(view.numbers(shape) == (0, 0, heads, dim))
    tensor = view.constant(weight)
    epsilon = norm.attributes[b"epsilon"]
    if tensor.data_type != FLOAT or tensor.dims != (dim,) or not isinstance(epsilon, float):
        raise NoMatchError
    return source, weight, epsilon


def _two(node: Node) -> tuple[bytes, bytes]:
    """The two inputs of a node."""
    if len(node.inputs) != 2:
        raise NoMatchError
    return node.inputs[0], node.inputs[1]
