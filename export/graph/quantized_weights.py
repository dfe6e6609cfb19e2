"""Quantized weights in a graph: `MatMulNBits` and its relatives, or `DequantizeLinear` in standard operators."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import torch

from ..quantization import QuantizedMatrix
from .writer import MICROSOFT, PLAIN, GraphWriter, Result

EIGHT_BIT_ACTIVATIONS = 4
"""The accuracy level of `MatMulNBits` that rounds activations to eight bits too, with a scale for each block."""

NIBBLES = 2
"""The number of four-bit integers in a byte."""

SIGNED = {4: ir.DataType.INT4, 8: ir.DataType.INT8}
"""The types of weights without zero points, whose integers are stored with 0 for 0."""

UNSIGNED = {4: ir.DataType.UINT4, 8: ir.DataType.UINT8}
"""The types of weights with zero points, and of the zero points themselves."""

BlockTensors = tuple[ir.Value, ir.Value, ir.Value | None]
"""Integers [..., blocks, bytes], scales [..., blocks], and zero points [..., bytes] where they are not the middle."""

Layout = Callable[[QuantizedMatrix], npt.NDArray[Any]]
"""A function that gives an array of a matrix for the file, with the matrix's rows first."""


class QuantizedWriter(GraphWriter):
    """Writes graphs some of whose weights are integers; the others stay as they are.

    Args:
        parameters: See `GraphWriter`.
        dtype: See `GraphWriter`.
        quantized: The integers of quantized weights, by the names of the parameters.
    """

    def __init__(
        self, parameters: Mapping[str, torch.Tensor], dtype: ir.DataType, quantized: Mapping[str, QuantizedMatrix]
    ) -> None:
        super().__init__(parameters, dtype)
        self._quantized = quantized

    def matrix(self, parameter: torch.Tensor) -> QuantizedMatrix | None:
        """A parameter's integers, where it has been quantized; a folded factor is part of their scales."""
        matrix, factor = self._quantized.get(self.stored_name(parameter)), self._factor(parameter)
        if matrix is None or factor == 1.0:
            return matrix
        return replace(matrix, scales=matrix.scales * np.float32(factor))


class BlockWriter(QuantizedWriter):
    """Writes products by quantized weights as ONNX Runtime's `MatMulNBits`."""

    def product(self, x: ir.Value, *weights: torch.Tensor, result: Result = PLAIN) -> ir.Value:
        """See `GraphWriter.product`; weights of several formats take as many products."""
        found = self._matrices(weights)
        if not found:
            return super().product(x, *weights, result=result)
        if len(found) < len(weights) or not are_alike(found):
            return self.op("Concat", *(self.product(x, weight) for weight in weights), axis=-1)
        return self._block_product(x, self.stored_name(*weights), found, result)

    def gains_by_packing(self, *weights: torch.Tensor) -> bool:
        """See `GraphWriter.gains_by_packing`; one product rounds the activations once."""
        found = self._matrices(weights)
        return len(found) == len(weights) and are_alike(found)

    def product_with_rows(self, x: ir.Value, table: torch.Tensor, *, result: Result = PLAIN) -> ir.Value:
        """See `GraphWriter.product_with_rows`."""
        matrix = self.matrix(table)
        if matrix is None:
            return super().product_with_rows(x, table, result=result)
        return self._block_product(x, self.stored_name(table), [matrix], result)

    def rows(self, table: torch.Tensor, indices: ir.Value) -> ir.Value:
        """See `GraphWriter.rows`; they come from the same integers as `product_with_rows`."""
        matrix = self.matrix(table)
        if matrix is None:
            return super().rows(table, indices)
        count, width = matrix.integers.shape
        stored_width = matrix.scales.shape[1] * matrix.block
        row_bytes = stored_width * matrix.bits // 8
        integers, scales, zero_points = self.block_tensors(self.stored_name(table), (count,), [matrix])
        gathered = self.op(
            "GatherBlockQuantized",
            self.op("Reshape", integers, [0, row_bytes], shape=(count, row_bytes)),
            *(indices, scales, zero_points),
            dtype=self.dtype,
            shape=(*self.tokens, stored_width),
            domain=MICROSOFT,
            bits=matrix.bits,
            block_size=matrix.block,
            gather_axis=0,
            quantize_axis=1,
        )
        if not matrix.is_padded:
            return gathered
        return self.op("Slice", gathered, [0], [width], [-1], shape=(*self.tokens, width))

    def block_tensors(self, name: str, rows: tuple[int, ...], matrices: Sequence[QuantizedMatrix]) -> BlockTensors:
        """Matrices of one format as initializers, one after the other; scales are stored as float16 where they fit.

        Args:
            name: The name under which they are stored once.
            rows: The dimensions that take the place of the rows of all matrices.
            matrices: The matrices to store.
        """

        def stored(part: str, dtype: ir.DataType, width: tuple[int, ...], make: Layout) -> ir.Value:
            def load() -> npt.NDArray[Any]:
                return np.concatenate([make(matrix) for matrix in matrices]).reshape(shape)

            shape = (*rows, *width)
            return self.stored_array(f"{name}.{part}", load, shape, dtype)

        bits, block, (_, blocks) = matrices[0].bits, matrices[0].block, matrices[0].scales.shape
        integers = stored("integers", ir.DataType.UINT8, (blocks, block * bits // 8), packed_integers)
        if all(map(fits_half, matrices)):
            scales = stored("scales", ir.DataType.FLOAT16, (blocks,), half_scales)
        else:
            scales = stored("scales", ir.DataType.FLOAT, (blocks,), lambda matrix: matrix.scales)
        zero_points = None
        if any(matrix.zero_points is not None for matrix in matrices):
            zero_points = stored("zero_points", ir.DataType.UINT8, (-(-blocks * bits // 8),), packed_zero_points)
        return integers, self.cast(scales, self.dtype), zero_points

    def _matrices(self, weights: Sequence[torch.Tensor]) -> list[QuantizedMatrix]:
        """The integers of those weights that are quantized."""
        found = (self.matrix(weight) for weight in weights)
        return [matrix for matrix in found if matrix is not None]

    def _block_product(self, x: ir.Value, name: str, matrices: list[QuantizedMatrix], result: Result) -> ir.Value:
        count, width = sum(len(matrix.integers) for matrix in matrices), matrices[0].integers.shape[1]
        return self.op(
            "MatMulNBits",
            x,
            *self.block_tensors(name, (count,), matrices),
            name=result.name,
            shape=(*self.tokens, count),
            domain=MICROSOFT,
            K=width,
            N=count,
            bits=matrices[0].bits,
            block_size=matrices[0].block,
            accuracy_level=EIGHT_BIT_ACTIVATIONS,
        )


class DequantizingWriter(QuantizedWriter):
    """Writes a `DequantizeLinear` in front of what reads a quantized weight, which gets it in the graph's dtype.

    The runtime has ONNX Runtime widen constant weights when it loads the graph (see `session_options`); TensorRT keeps
    the integers.

    Args:
        parameters: See `GraphWriter`.
        dtype: See `GraphWriter`.
        quantized: See `QuantizedWriter`.
        per_channel: Whether a block as wide as its weight is stored as one scale per channel, as TensorRT has it.
    """

    def __init__(
        self,
        parameters: Mapping[str, torch.Tensor],
        dtype: ir.DataType,
        quantized: Mapping[str, QuantizedMatrix],
        *,
        per_channel: bool = False,
    ) -> None:
        super().__init__(parameters, dtype, quantized)
        self._per_channel = per_channel

    def weight(
        self, parameter: torch.Tensor, *, transposed: bool = False, dtype: ir.DataType | None = None
    ) -> ir.Value:
        """See `GraphWriter.weight`; a quantized one comes from its `DequantizeLinear`."""
        matrix = self.matrix(parameter)
        if matrix is None:
            return super().weight(parameter, transposed=transposed, dtype=dtype)
        parts = self._parts(self.stored_name(parameter), matrix, transposed=transposed)
        shape = tuple((parameter.T if transposed else parameter).shape)
        if self._is_per_channel(matrix):
            return self.op("DequantizeLinear", *parts, dtype=self.dtype, shape=shape, axis=1 if transposed else 0)
        return self._dequantized(parts, shape, 0 if transposed else 1, matrix.block)

    def rows(self, table: torch.Tensor, indices: ir.Value) -> ir.Value:
        """See `GraphWriter.rows`; gathered as integers, so that the table is never widened for a few of its rows."""
        matrix = self.matrix(table)
        if matrix is None:
            return super().rows(table, indices)
        assert indices.shape is not None
        parts = self._parts(self.stored_name(table), matrix, transposed=False)
        chosen = [self.op("Gather", part, indices) for part in parts]
        return self._dequantized(chosen, (*indices.shape, table.shape[1]), len(indices.shape), matrix.block)

    def _dequantized(self, parts: Sequence[ir.Value], shape: Sequence[Any], axis: int, block: int) -> ir.Value:
        return self.op("DequantizeLinear", *parts, dtype=self.dtype, shape=shape, axis=axis, block_size=block)

    def _is_per_channel(self, matrix: QuantizedMatrix) -> bool:
        return self._per_channel and matrix.bits == 8 and matrix.block == matrix.integers.shape[1]

    def _parts(self, name: str, matrix: QuantizedMatrix, *, transposed: bool) -> list[ir.Value]:
        """Integers, scales and, where there are any, zero points, in the order in which the operator takes them."""

        def turned(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
            return array.T if transposed else array

        def integers(part: str, make: Callable[[], npt.NDArray[Any]], dtype: ir.DataType) -> ir.Value:
            shape = turned(matrix.integers if part == "integers" else matrix.scales).shape
            return self.stored_array(f"{name}.{part}", lambda: turned(make()).astype(dtype.numpy()), shape, dtype)

        name = f"{name}.T" if transposed else name
        kept = matrix.scales[:, 0] if self._is_per_channel(matrix) else turned(matrix.scales)
        scales = self.stored(f"{name}.scales", lambda: torch.from_numpy(kept), kept.shape, self.dtype)
        zero_points = matrix.zero_points
        if zero_points is None:
            return [integers("integers", lambda: centred_integers(matrix), SIGNED[matrix.bits]), scales]
        return [
            integers("integers", lambda: matrix.integers, UNSIGNED[matrix.bits]),
            scales,
            integers("zero_points", lambda: zero_points, UNSIGNED[matrix.bits]),
        ]


def are_alike(matrices: Sequence[QuantizedMatrix]) -> bool:
    """Whether matrices have one format and width, so that they can be stored as one."""
    return len({(matrix.bits, matrix.block, matrix.integers.shape[1]) for matrix in matrices}) == 1


def packed_integers(matrix: QuantizedMatrix) -> npt.NDArray[Any]:
    """The integers [out, bytes], whole blocks: those of four bits two to a byte, the first in the low half."""
    return _in_bytes(matrix.padded_integers(), matrix.bits)


def centred_integers(matrix: QuantizedMatrix) -> npt.NDArray[np.int8]:
    """The signed integers [out, in] of a matrix without zero points."""
    return (matrix.integers.astype(np.int16) - matrix.middle).astype(np.int8)  # 128 is no int8


def fits_half(matrix: QuantizedMatrix) -> bool:
    """Whether float16 holds the scales to the last bit, as it does those without a folded factor."""
    return bool((half_scales(matrix) == matrix.scales).all())


def half_scales(matrix: QuantizedMatrix) -> npt.NDArray[Any]:
    """The scales [out, blocks] float16."""
    return matrix.scales.astype(np.float16)


def packed_zero_points(matrix: QuantizedMatrix) -> npt.NDArray[Any]:
    """The zero points [out, bytes], packed like the integers; the last half byte of an odd number is 0."""
    return _in_bytes(all_zero_points(matrix), matrix.bits)


def all_zero_points(matrix: QuantizedMatrix) -> npt.NDArray[np.uint8]:
    """The zero points [out, blocks], also of a matrix that has none of its own."""
    if matrix.zero_points is None:
        return np.full(matrix.scales.shape, matrix.middle, np.uint8)
    return matrix.zero_points


def _in_bytes(numbers: npt.NDArray[np.uint8], bits: int) -> npt.NDArray[Any]:
    if bits == 8:
        return numbers
    even = np.pad(numbers, ((0, 0), (0, numbers.shape[1] % NIBBLES)))
    packed: npt.NDArray[Any] = even[:, ::2] | even[:, 1::2] << 4
    return packed
