"""Weights as blocks of integers in ONNX Runtime's own layouts: what `MatMulNBits` and its relatives read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import torch

from ..quantization import QuantizedMatrix
from .writer import MICROSOFT, PLAIN, GraphWriter, Result

EIGHT_BIT_ACTIVATIONS = 4
"""Accuracy level at which activations too become integers of eight bits, with a scale for each block."""

NIBBLES = 2
"""Integers of four bits in a byte."""

BlockTensors = tuple[ir.Value, ir.Value, ir.Value | None]
"""Integers [..., blocks, bytes], scales [..., blocks], and zero points [..., bytes] where they are not the middle."""


class BlockWriter(GraphWriter):
    """Writes products by quantized weights as `MatMulNBits`; weights that are not quantized stay as they are.

    Args:
        parameters: See `GraphWriter`.
        dtype: See `GraphWriter`.
        quantized: Weights as integers, by the names of the parameters.
    """

    def __init__(
        self,
        parameters: Mapping[str, torch.Tensor],
        dtype: ir.DataType,
        quantized: Mapping[str, QuantizedMatrix],
    ) -> None:
        super().__init__(parameters, dtype)
        self._quantized = quantized

    def product(self, x: ir.Value, *weights: torch.Tensor, result: Result = PLAIN) -> ir.Value:
        """See `GraphWriter.product`; by weights of several formats, that many products."""
        matrices = [self.matrix(weight) for weight in weights]
        found = [matrix for matrix in matrices if matrix is not None]
        if not found:
            return super().product(x, *weights, result=result)
        if len(found) < len(weights) or not are_alike(found):
            return self.op("Concat", *(self.product(x, weight) for weight in weights), axis=-1)
        return self._block_product(x, self.stored_name(*weights), found, result)

    def gains_by_packing(self, *weights: torch.Tensor) -> bool:
        """See `GraphWriter.gains_by_packing`; one product rounds the activations once."""
        matrices = [self.matrix(weight) for weight in weights]
        found = [matrix for matrix in matrices if matrix is not None]
        return len(found) == len(weights) and are_alike(found)

    def product_with_rows(self, x: ir.Value, table: torch.Tensor, *, result: Result = PLAIN) -> ir.Value:
        """See `GraphWriter.product_with_rows`."""
        matrix = self.matrix(table)
        if matrix is None:
            return super().product_with_rows(x, table, result=result)
        return self._block_product(x, self.stored_name(table), [matrix], result)

    def rows(self, table: torch.Tensor, indices: ir.Value) -> ir.Value:
        """See `GraphWriter.rows`; of the same integers as `product_with_rows`, with the blocks of a row in one."""
        matrix = self.matrix(table)
        if matrix is None:
            return super().rows(table, indices)
        (count, width), row_bytes = matrix.integers.shape, matrix.integers.shape[1] * matrix.bits // 8
        integers, scales, zero_points = self.block_tensors(self.stored_name(table), (count,), [matrix])
        return self.op(
            "GatherBlockQuantized",
            self.op("Reshape", integers, [0, row_bytes], shape=(count, row_bytes)),
            *(indices, scales, zero_points),
            dtype=self.dtype,
            shape=(*self.tokens, width),
            domain=MICROSOFT,
            bits=matrix.bits,
            block_size=matrix.block,
            gather_axis=0,
            quantize_axis=1,
        )

    def matrix(self, parameter: torch.Tensor) -> QuantizedMatrix | None:
        """A parameter as integers, where it has been quantized."""
        return self._quantized.get(self.stored_name(parameter))

    def block_tensors(
        self,
        name: str,
        rows: tuple[int, ...],
        matrices: Sequence[QuantizedMatrix],
        arranged: Callable[[], Sequence[QuantizedMatrix]] | None = None,
    ) -> BlockTensors:
        """Matrices that are alike as initializers, one behind the other; scales are stored as float16, which they fit.

        Args:
            name: Under which they are stored once.
            rows: The dimensions that take the place of the rows of them all.
            matrices: What is stored.
            arranged: Gives their rows in the order of the file, where that is another.
        """

        def stored(part: str, dtype: ir.DataType, width: tuple[int, ...], make: Layout) -> ir.Value:
            def load() -> npt.NDArray[Any]:
                ordered = arranged() if arranged else matrices
                return np.concatenate([make(matrix) for matrix in ordered]).reshape(shape)

            shape = (*rows, *width)
            return self.stored_array(f"{name}.{part}", load, shape, dtype)

        bits, block, (_, blocks) = matrices[0].bits, matrices[0].block, matrices[0].scales.shape
        integers = stored("integers", ir.DataType.UINT8, (blocks, block * bits // 8), packed_integers)
        scales = stored("scales", ir.DataType.FLOAT16, (blocks,), half_scales)
        zero_points = None
        if any(matrix.zero_points is not None for matrix in matrices):
            zero_points = stored("zero_points", ir.DataType.UINT8, (-(-blocks * bits // 8),), packed_zero_points)
        return integers, self.cast(scales, self.dtype), zero_points

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


Layout = Callable[[QuantizedMatrix], npt.NDArray[Any]]
"""An array of the file, with a matrix's rows first."""


def are_alike(matrices: Sequence[QuantizedMatrix]) -> bool:
    """Whether matrices can be stored as one."""
    return len({(matrix.bits, matrix.block, matrix.integers.shape[1]) for matrix in matrices}) == 1


def packed_integers(matrix: QuantizedMatrix) -> npt.NDArray[Any]:
    """The integers [out, bytes]: those of four bits two to a byte, the first in the low half."""
    return _in_bytes(matrix.integers, matrix.bits)


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
