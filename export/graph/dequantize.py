"""Weights as integers in standard operators: `DequantizeLinear` in front of what uses them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import torch

from ..quantization.matrix import QuantizedMatrix
from .writer import GraphWriter, initializer

SIGNED = {4: ir.DataType.INT4, 8: ir.DataType.INT8}
"""Of weights whose zero points are all in the middle: without zero points, 0 stands for 0."""

UNSIGNED = {4: ir.DataType.UINT4, 8: ir.DataType.UINT8}


class DequantizingWriter(GraphWriter):
    """Stores some weights as integers; what a layer reads of them has the graph's dtype all the same.

    The runtime has ONNX Runtime widen what is constant when it loads the graph (see `session_options`).

    Args:
        parameters: See `GraphWriter`.
        dtype: See `GraphWriter`.
        quantized: Weights by the names of their parameters; all others are stored as they are.
    """

    def __init__(
        self, parameters: Mapping[str, torch.Tensor], dtype: ir.DataType, quantized: Mapping[str, QuantizedMatrix]
    ) -> None:
        super().__init__(parameters, dtype)
        self._quantized = quantized

    def weight(
        self, parameter: torch.Tensor, *, transposed: bool = False, dtype: ir.DataType | None = None
    ) -> ir.Value:
        """See `GraphWriter.weight`; of a quantized one, what `DequantizeLinear` makes of its integers."""
        name = self._names[id(parameter)]
        if name not in self._quantized:
            return super().weight(parameter, transposed=transposed, dtype=dtype)
        stored = self._parts(name, transposed=transposed)
        shape = parameter.T.shape if transposed else parameter.shape
        return self._dequantized(stored, tuple(shape), 0 if transposed else 1, self._quantized[name].block)

    def rows(self, table: torch.Tensor, indices: ir.Value) -> ir.Value:
        """See `GraphWriter.rows`; chosen as integers, so that the table is never widened for a few of its rows."""
        name = self._names[id(table)]
        if name not in self._quantized:
            return super().rows(table, indices)
        assert indices.shape is not None
        chosen = [self.op("Gather", part, indices) for part in self._parts(name, transposed=False)]
        shape = (*indices.shape, table.shape[1])
        return self._dequantized(chosen, shape, len(indices.shape), self._quantized[name].block)

    def _dequantized(self, parts: Sequence[ir.Value], shape: Sequence[Any], axis: int, block: int) -> ir.Value:
        return self.op("DequantizeLinear", *parts, dtype=self.dtype, shape=shape, axis=axis, block_size=block)

    def _parts(self, name: str, *, transposed: bool) -> list[ir.Value]:
        """Integers, scales and, where there are any, zero points, in the order in which the operator takes them."""
        matrix = self._quantized[name]

        def turned(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
            return array.T if transposed else array

        name = f"{name}.T" if transposed else name
        scales = self.stored(
            f"{name}.scales", lambda: torch.from_numpy(turned(matrix.scales)), turned(matrix.scales).shape, self.dtype
        )
        if matrix.zero_points is None:
            centred = (matrix.integers.astype(np.int16) - matrix.middle).astype(np.int8)  # 128 is no int8
            return [self._integers(f"{name}.integers", turned(centred), SIGNED[matrix.bits]), scales]
        return [
            self._integers(f"{name}.integers", turned(matrix.integers), UNSIGNED[matrix.bits]),
            scales,
            self._integers(f"{name}.zero_points", turned(matrix.zero_points), UNSIGNED[matrix.bits]),
        ]

    def _integers(self, name: str, array: npt.NDArray[Any], dtype: ir.DataType) -> ir.Value:
        key = (name, dtype)
        if key not in self._initializers:
            self._initializers[key] = initializer(
                ir.Tensor(np.ascontiguousarray(array).astype(dtype.numpy()), dtype, name=name)
            )
        return self._initializers[key]
