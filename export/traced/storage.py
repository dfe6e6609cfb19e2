"""The storage of a traced graph's weights: already transposed for their products, as float16, or as integers.

Only products by weights are computed in float16, with a cast before and after each of them. The rest stays float32:
nothing is known about a changed model's sums, softmaxes and norms that would allow float16.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import nn

from ..graph.quantized_weights import SIGNED, UNSIGNED, centred_integers
from ..graph.weight import lazy_weight
from ..quantization.formats import QuantizedMatrix

FLOAT, FLOAT16 = ir.DataType.FLOAT, ir.DataType.FLOAT16

LEAST_OUTPUTS = 16
"""The fewest outputs of a product in float16: fewer mean a router or a gate, whose weights stay float32 so that it
chooses as the owner's code does."""


class WeightStorage:
    """Rewrites the weights of one traced graph.

    Args:
        model: The graph.
        step: The traced module: the graph's weights have the names of its parameters.
    """

    def __init__(self, model: ir.Model, step: nn.Module) -> None:
        self.graph = model.graph
        names = {id(parameter): name for name, parameter in step.named_parameters()}
        self._parameters = dict(step.named_parameters(remove_duplicate=False))
        self._canonical = {name: names[id(parameter)] for name, parameter in self._parameters.items()}
        self._casts: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}
        self._stored: dict[str, ir.Value] = {}

    def turn_weights(self) -> None:
        """Store a weight that is transposed for its product, and used nowhere else, already transposed."""
        for node in list(self.graph):
            weight = self._turned_parameter(node)
            if weight is None or len(list(weight.uses())) > 1:
                continue
            name = weight.name or ""
            parameter = self._parameters[name]

            def turned(parameter: torch.Tensor = parameter) -> torch.Tensor:
                return parameter.T

            shape = tuple(parameter.T.shape)
            stored = self._initializer(lazy_weight(f"{name}.T", turned, shape, FLOAT))
            ir.convenience.replace_all_uses_with(node.outputs[0], stored)
            self.graph.remove(node, safe=True)
            del self.graph.initializers[name]

    def halve(self) -> None:
        """Compute products by weights, look up embeddings and keep the cache in float16."""
        for node, weight in list(self._products()):
            self._narrow_product(node, self._half(weight, node))
        for node, table in list(self._lookups()):
            node.replace_input_with(0, self._half(table, node))
            self._widen_output(node)
        self._halve_cache()
        self._drop_unused()

    def as_integers(self, matrices: Mapping[str, QuantizedMatrix], dtype: ir.DataType = FLOAT) -> None:
        """Store weights as integers with a `DequantizeLinear` after them; the rest stays as it is.

        Args:
            matrices: The integers by the names of the traced step's parameters; weights without an entry stay float.
            dtype: The type in which products of these weights are computed: FLOAT, or FLOAT16 for TensorRT.
        """
        for node, weight in list(self._products()):
            name = self._name_of(weight)
            if name in matrices:
                value = self._dequantized(name, matrices[name], weight, node, dtype)
                if dtype == FLOAT16:
                    self._narrow_product(node, value)
                else:
                    node.replace_input_with(1, value)
        for node, table in list(self._lookups()):
            name = self._name_of(table)
            if name in matrices:
                self._look_up_integers(node, name, matrices[name])
        self._drop_unused()

    def _products(self) -> Iterable[tuple[ir.Node, ir.Value]]:
        """Each product in float32 by a parameter, stored or transposed, and the parameter's value."""
        for node in self.graph:
            if node.op_type not in ("MatMul", "Gemm") or node.inputs[1] is None:
                continue
            weight = node.inputs[1]
            if not self._is_parameter(weight):
                producer = weight.producer()
                if producer is None or self._turned_parameter(producer) is None:
                    continue
            parameter = self._parameters[self._name_of(weight)]
            if parameter.dim() == 2 and len(parameter) >= LEAST_OUTPUTS:
                yield node, weight

    def _lookups(self) -> Iterable[tuple[ir.Node, ir.Value]]:
        """Each embedding lookup, which gathers rows of a float32 parameter, and the parameter's value."""
        for node in self.graph:
            table = node.inputs[0] if node.op_type == "Gather" else None
            if table is not None and self._is_parameter(table) and self._parameters[self._name_of(table)].dim() == 2:
                yield node, table

    def _is_parameter(self, value: ir.Value) -> bool:
        name = (value.name or "").removesuffix(".T")
        return value.is_initializer() and name in self._parameters and value.dtype == FLOAT

    def _turned_parameter(self, node: ir.Node) -> ir.Value | None:
        """The parameter [out, in] that a node transposes, or None."""
        if node.op_type != "Transpose" or node.inputs[0] is None or not self._is_parameter(node.inputs[0]):
            return None
        return node.inputs[0] if self._parameters[self._name_of(node.inputs[0])].dim() == 2 else None

    def _name_of(self, weight: ir.Value) -> str:
        """The parameter's name, whether its value is transposed or not; of tied parameters the first."""
        producer = weight.producer()
        value = weight if producer is None else producer.inputs[0]
        assert value is not None
        return self._canonical[(value.name or "").removesuffix(".T")]

    def _half(self, weight: ir.Value, user: ir.Node) -> ir.Value:
        """The value in float16, transposed where the value is."""
        producer = weight.producer()
        if producer is not None:
            source = producer.inputs[0]
            assert source is not None
            return self._before(user, "Transpose", [self._half(source, user)], FLOAT16, perm=[1, 0])
        name, parameter = f"{weight.name}.fp16", self._parameters[self._name_of(weight)]
        is_turned = (weight.name or "").endswith(".T")
        if name not in self._stored:

            def numbers() -> torch.Tensor:
                return parameter.T if is_turned else parameter

            self._initializer(lazy_weight(name, numbers, tuple(numbers().shape), FLOAT16))
        return self._stored[name]

    def _narrow_product(self, node: ir.Node, weight: ir.Value) -> None:
        """Compute a product in float16 by this weight."""
        node.replace_input_with(1, weight)
        for index, operand in enumerate(node.inputs):
            if index != 1 and operand is not None:
                node.replace_input_with(index, self._cast(operand, FLOAT16, node))
        self._widen_output(node)

    def _widen_output(self, node: ir.Node) -> None:
        """Make the output float16, and put a cast to float32 before every reader of it."""
        output = node.outputs[0]
        users = list(output.uses())
        name, is_output = output.name, output.is_graph_output()
        cast = ir.node("Cast", [output], {"to": FLOAT.value}, num_outputs=1, name=f"{name}.fp32")
        wide = cast.outputs[0]
        wide.type, output.type = ir.TensorType(FLOAT), ir.TensorType(FLOAT16)
        self.graph.insert_after(node, cast)
        for user, index in users:
            user.replace_input_with(index, wide)
        wide.name = f"{name}.fp32"
        if is_output:
            self._become_output(output, wide)

    def _become_output(self, old: ir.Value, new: ir.Value) -> None:
        """Replace one of the graph's outputs by a value, under the same name."""
        index = next(index for index, value in enumerate(self.graph.outputs) if value is old)
        name, new.shape = old.name, old.shape
        old.name, old.shape = f"{name}.inner", None
        new.name = name
        self.graph.outputs[index] = new

    def _halve_cache(self) -> None:
        for value in self.graph.inputs:
            if (value.name or "").startswith("past_key_values"):
                users = list(value.uses())
                value.type = ir.TensorType(FLOAT16)
                for user, index in users:
                    if user.op_type != "TensorScatter":
                        user.replace_input_with(index, self._cast(value, FLOAT, user))
        for value in list(self.graph.outputs):
            producer = value.producer()
            if not (value.name or "").startswith("present") or producer is None:
                continue
            if producer.op_type == "TensorScatter":  # writes float16 into float16
                new = producer.inputs[1]
                assert new is not None
                producer.replace_input_with(1, self._cast(new, FLOAT16, producer))
                value.type = ir.TensorType(FLOAT16)
            else:
                cast = ir.node("Cast", [value], {"to": FLOAT16.value}, num_outputs=1, name=f"{value.name}.fp16")
                cast.outputs[0].type = ir.TensorType(FLOAT16)
                self.graph.append(cast)
                self._become_output(value, cast.outputs[0])

    def _cast(self, value: ir.Value, dtype: ir.DataType, user: ir.Node) -> ir.Value:
        """The value in another dtype, by one cast for all of its readers."""
        key = (value, dtype)
        if key not in self._casts:
            cast = ir.node("Cast", [value], {"to": dtype.value}, num_outputs=1, name=f"{value.name}.to.{dtype.name}")
            cast.outputs[0].name = f"{value.name}.to.{dtype.name}"
            cast.outputs[0].type = ir.TensorType(dtype)
            producer = value.producer()
            if producer is None:
                self.graph.insert_before(self.graph[0], cast)
            else:
                self.graph.insert_after(producer, cast)
            self._casts[key] = cast.outputs[0]
        return self._casts[key]

    def _before(
        self, user: ir.Node, op_type: str, inputs: list[ir.Value], dtype: ir.DataType, **attributes: Any
    ) -> ir.Value:
        """Insert a node before the one that reads its output."""
        name = f"{inputs[0].name}.{op_type}.{len(self._stored)}"
        node = ir.node(op_type, inputs, attributes, num_outputs=1, name=name)
        node.outputs[0].name = name
        node.outputs[0].type = ir.TensorType(dtype)
        self._stored[name] = node.outputs[0]
        self.graph.insert_before(user, node)
        return node.outputs[0]

    def _initializer(self, tensor: ir.TensorProtocol) -> ir.Value:
        name = tensor.name or ""
        if name not in self._stored:
            value = ir.Value(
                name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(tensor.shape.numpy()), const_value=tensor
            )
            self.graph.register_initializer(value)
            self._stored[name] = value
        return self._stored[name]

    def _dequantized(
        self, name: str, matrix: QuantizedMatrix, weight: ir.Value, user: ir.Node, dtype: ir.DataType
    ) -> ir.Value:
        """The dequantized value of a weight, transposed as the product needs it."""
        is_turned = weight.is_initializer()  # stored as [in, out]
        parts = self._integer_parts(name, matrix, is_turned=is_turned, dtype=dtype)
        per_channel = parts[1].shape is not None and len(parts[1].shape) == 1
        axis = 0 if is_turned == (not per_channel) else 1
        blocks = {} if per_channel else {"block_size": matrix.block}
        value = self._before(user, "DequantizeLinear", parts, dtype, axis=axis, **blocks)
        return value if is_turned else self._before(user, "Transpose", [value], dtype, perm=[1, 0])

    def _look_up_integers(self, node: ir.Node, name: str, matrix: QuantizedMatrix) -> None:
        """Gather rows as integers, so that the whole table is never dequantized for a few of its rows."""
        indices, output = node.inputs[1], node.outputs[0]
        assert indices is not None
        parts = self._integer_parts(name, matrix, is_turned=False)
        rows = [self._before(node, "Gather", [part, indices], part.dtype or FLOAT) for part in parts]
        value = self._before(node, "DequantizeLinear", rows, FLOAT, axis=-1, block_size=matrix.block)
        ir.convenience.replace_all_uses_with(output, value)
        self.graph.remove(node, safe=True)

    def _integer_parts(
        self, name: str, matrix: QuantizedMatrix, *, is_turned: bool, dtype: ir.DataType = FLOAT
    ) -> list[ir.Value]:
        """Integers, scales and, where there are any, zero points; scales [out] where a block is a whole channel."""

        def laid(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
            return np.ascontiguousarray(array.T if is_turned else array)

        label = f"{name}.T" if is_turned else name
        is_channel = dtype == FLOAT16 and matrix.block == matrix.integers.shape[1]
        kept = matrix.scales[:, 0] if is_channel else laid(matrix.scales)
        scales = self._initializer(ir.Tensor(kept.astype(dtype.numpy()), dtype, name=f"{label}.scales"))
        if matrix.zero_points is None:
            return [self._integers(f"{label}.integers", laid(centred_integers(matrix)), SIGNED[matrix.bits]), scales]
        return [
            self._integers(f"{label}.integers", laid(matrix.integers), UNSIGNED[matrix.bits]),
            scales,
            self._integers(f"{label}.zero_points", laid(matrix.zero_points), UNSIGNED[matrix.bits]),
        ]

    def _integers(self, name: str, array: np.ndarray[Any, Any], dtype: ir.DataType) -> ir.Value:
        return self._initializer(ir.Tensor(array.astype(dtype.numpy()), dtype, name=name))

    def _drop_unused(self) -> None:
        """Remove weights that no node reads any more, and the nodes that had only these as inputs."""
        from onnx_ir.passes.common import RemoveUnusedNodesPass

        model = ir.Model(self.graph, ir_version=10)
        RemoveUnusedNodesPass()(model)
