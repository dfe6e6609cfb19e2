"""Writes a graph node by node, under names that say where in the model a node comes from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from .weight import lazy_weight

Operand = ir.Value | int | float | Sequence[int] | None
"""An input of a node: a value, a number that becomes a constant, or None for an optional input left out."""

Shape = Sequence[int | str]
"""Sizes of the axes; a string names one that varies."""

MICROSOFT = "com.microsoft"
"""Domain of ONNX Runtime's own operators."""


@dataclass(frozen=True)
class Result:
    """The name, type and shape of a node's output, as far as they are known.

    Attributes:
        name: The value's name; None for the node's name.
        dtype: The value's type; None for the first operand's.
        shape: The value's shape; None where shape inference finds it.
    """

    name: str | None = None
    dtype: ir.DataType | None = None
    shape: Shape | None = None


PLAIN = Result()


class GraphWriter:
    """An ONNX graph in the making.

    Args:
        parameters: The tensors that may become weights, by their names in the state dict.
        dtype: The type of weights and activations: FLOAT, FLOAT16 or BFLOAT16.

    Attributes:
        tokens: The axes before the features of what is being written, for operators without shape inference.
    """

    def __init__(self, parameters: Mapping[str, torch.Tensor], dtype: ir.DataType) -> None:
        self.dtype = dtype
        self.tokens: tuple[str, ...] = ()
        self._names = {id(parameter): name for name, parameter in parameters.items()}
        self._nodes: list[ir.Node] = []
        self._initializers: dict[Any, ir.Value] = {}
        self._scopes: list[str] = []
        self._uses: Counter[str] = Counter()
        self._factors: dict[int, float] = {}

    @contextmanager
    def scope(self, *path: str | int) -> Iterator[None]:
        """Write the nodes within under this module path, within that of the outer scope."""
        names = [str(name) for name in path]
        self._scopes += names
        try:
            yield
        finally:
            del self._scopes[-len(names) :]

    def op(
        self,
        op_type: str,
        *operands: Operand,
        name: str | None = None,
        dtype: ir.DataType | None = None,
        shape: Shape | None = None,
        domain: str = "",
        **attributes: Any,
    ) -> ir.Value:
        """Write a node with one output.

        Args:
            op_type: The operator.
            operands: Its inputs; integers become int64 constants, floats constants of the output's dtype.
            name: The output's name.
            dtype: The output's type; None for the first operand's.
            shape: The output's shape; None where shape inference finds it.
            domain: The operator's domain.
            attributes: The node's attributes.
        """
        (value,) = self.ops(op_type, *operands, results=[Result(name, dtype, shape)], domain=domain, **attributes)
        return value

    def ops(
        self, op_type: str, *operands: Operand, results: Sequence[Result], domain: str = "", **attributes: Any
    ) -> tuple[ir.Value, ...]:
        """Write a node with several outputs; see `op`."""
        first = next(operand for operand in operands if isinstance(operand, ir.Value))
        name = self._unique(".".join([*self._scopes, op_type]))
        number = results[0].dtype or dtype_of(first)
        inputs = [self._value(operand, number) for operand in operands]
        node = ir.node(op_type, inputs, attributes, domain=domain, num_outputs=len(results), name=name)
        for index, (value, result) in enumerate(zip(node.outputs, results, strict=True)):
            value.name = result.name or (name if len(results) == 1 else f"{name}.{index}")
            value.type = ir.TensorType(result.dtype or dtype_of(first))
            value.shape = None if result.shape is None else ir.Shape(result.shape)
        self._nodes.append(node)
        return tuple(node.outputs)

    def cast(self, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        """The value in another dtype; itself where it has that one already."""
        if dtype_of(value) == dtype:
            return value
        return self.op("Cast", value, dtype=dtype, to=dtype.value)

    def product(self, x: ir.Value, *weights: torch.Tensor, result: Result = PLAIN) -> ir.Value:
        """`x` [..., in] times weights [out, in], which are stored as one and give [..., out of all].

        Args:
            x: The left operand.
            weights: Parameters of the model.
            result: What is known of the product.
        """
        weight = self.packed(weights) if len(weights) > 1 else self.weight(*weights, transposed=True)
        return self._multiplied(x, weight, result)

    def fold(self, factor: float, parameter: torch.Tensor) -> None:
        """Store a parameter times a factor, which the graph then need not multiply by; before its first use."""
        self._factors[id(parameter)] = factor

    def gains_by_packing(self, *weights: torch.Tensor) -> bool:
        """Whether one product and a `Split` after it are faster than a product by each weight; floats are not."""
        return False

    def product_with_rows(self, x: ir.Value, table: torch.Tensor, *, result: Result = PLAIN) -> ir.Value:
        """`x` [..., in] times a table [out, in] that `rows` reads too, and that is stored once; [..., out]."""
        return self._multiplied(x, self.op("Transpose", self.weight(table), perm=[1, 0]), result)

    def rows(self, table: torch.Tensor, indices: ir.Value) -> ir.Value:
        """Rows of a parameter [V, H], [..., H]."""
        return self.op("Gather", self.weight(table), indices)

    def packed(self, weights: Sequence[torch.Tensor]) -> ir.Value:
        """Parameters [out, in], one after the other and transposed, [in, out of all]."""
        shape = (weights[0].shape[1], sum(len(weight) for weight in weights))
        return self.stored(
            f"{self.stored_name(*weights)}.T", lambda: torch.cat([*map(self._numbers, weights)]).T, shape
        )

    def stored_name(self, *weights: torch.Tensor) -> str:
        """A parameter's name; of several of one module, as of `a.q.weight` and `a.k.weight`, `a.q+k.weight`."""
        paths = [self._names[id(weight)].split(".") for weight in weights]
        return ".".join([*paths[0][:-2], "+".join(path[-2] for path in paths), paths[0][-1]])

    def weight(
        self, parameter: torch.Tensor, *, transposed: bool = False, dtype: ir.DataType | None = None
    ) -> ir.Value:
        """A parameter as an initializer, stored once however often it is used.

        Args:
            parameter: One of the model's.
            transposed: Store it as [in, out], as `MatMul` takes it.
            dtype: The stored type; None for the graph's.
        """
        name = self.stored_name(parameter)
        if not transposed:
            return self.stored(name, lambda: self._numbers(parameter), tuple(parameter.shape), dtype)
        return self.stored(f"{name}.T", lambda: self._numbers(parameter).T, tuple(parameter.T.shape), dtype)

    def stored(
        self, name: str, make: Callable[[], torch.Tensor], shape: tuple[int, ...], dtype: ir.DataType | None = None
    ) -> ir.Value:
        """An initializer whose numbers are made when the file is written, so that they take no memory before.

        Args:
            name: The name under which it is stored once.
            make: Returns the numbers, in any float dtype.
            shape: Their shape.
            dtype: The stored type; None for the graph's.
        """
        key = (name, dtype or self.dtype)
        if key not in self._initializers:
            self._initializers[key] = initializer(lazy_weight(name, make, shape, dtype or self.dtype))
        return self._initializers[key]

    def stored_array(
        self, name: str, make: Callable[[], np.ndarray[Any, Any]], shape: tuple[int, ...], dtype: ir.DataType
    ) -> ir.Value:
        """An initializer of numbers in their final form, made when the file is written; see `stored`."""

        def load() -> ir.TensorProtocol:
            return ir.Tensor(np.ascontiguousarray(make()), dtype, name=name)

        key = (name, dtype)
        if key not in self._initializers:
            self._initializers[key] = initializer(ir.LazyTensor(load, dtype, ir.Shape(shape), name=name))
        return self._initializers[key]

    def constant(self, number: int, dtype: ir.DataType) -> ir.Value:
        """An integer that is not int64, as which operators take plain numbers."""
        return self._constant(np.asarray(number, dtype.numpy()))

    def finish(
        self,
        name: str,
        inputs: Sequence[ir.Value],
        outputs: Sequence[ir.Value],
        opset: int,
        constants: Sequence[ir.Value] = (),
    ) -> ir.Graph:
        """The graph of all that was written.

        Args:
            name: The graph's name.
            inputs: Its inputs.
            outputs: Its outputs.
            opset: The version of the standard operators.
            constants: Initializers that were not made by this writer.
        """
        opsets = {"": opset} | {node.domain: 1 for node in self._nodes if node.domain}
        return ir.Graph(
            inputs,
            outputs,
            nodes=self._nodes,
            initializers=[*self._initializers.values(), *constants],
            opset_imports=opsets,
            name=name,
        )

    def _factor(self, parameter: torch.Tensor) -> float:
        return self._factors.get(id(parameter), 1.0)

    def _numbers(self, parameter: torch.Tensor) -> torch.Tensor:
        """A parameter as it is stored."""
        factor = self._factor(parameter)
        return parameter if factor == 1.0 else parameter * factor

    def _multiplied(self, x: ir.Value, weight: ir.Value, result: Result) -> ir.Value:
        return self.op("MatMul", x, weight, name=result.name, dtype=result.dtype, shape=result.shape)

    def _value(self, operand: Operand, number: ir.DataType) -> ir.Value | None:
        if operand is None or isinstance(operand, ir.Value):
            return operand
        dtype = number if isinstance(operand, float) else ir.DataType.INT64
        return self._constant(np.asarray(operand, dtype.numpy()))

    def _constant(self, array: np.ndarray[Any, Any]) -> ir.Value:
        key = (array.dtype, array.shape, array.tobytes())
        if key not in self._initializers:
            self._initializers[key] = initializer(ir.tensor(array, name=self._unique("constant")))
        return self._initializers[key]

    def _unique(self, name: str) -> str:
        self._uses[name] += 1
        return name if self._uses[name] == 1 else f"{name}_{self._uses[name]}"


def initializer(tensor: ir.TensorProtocol) -> ir.Value:
    """A tensor as a value of a graph."""
    return ir.Value(
        name=tensor.name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(tensor.shape.numpy()), const_value=tensor
    )


def dtype_of(value: ir.Value) -> ir.DataType:
    """The dtype of a value that has one."""
    assert value.dtype is not None
    return value.dtype


def graph_input(name: str, dtype: ir.DataType, shape: Shape) -> ir.Value:
    """An input of a graph."""
    return ir.Value(name=name, type=ir.TensorType(dtype), shape=ir.Shape(shape))


def optional_input(name: str, default: int, dtype: str, axis: str | int) -> ir.Value:
    """A constant that the runtime makes an input, of integers along one axis.

    Args:
        name: The input's name.
        default: The number, along the whole axis, that a caller who does not feed the input gets.
        dtype: The input's type, as NumPy names it.
        axis: The axis of what may be fed: a size, or a name.
    """
    value = initializer(ir.tensor(np.asarray([default], dtype), name=name))
    value.shape = ir.Shape([axis])
    return value
