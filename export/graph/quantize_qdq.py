"""Weights as integers, with a `DequantizeLinear` in front of the layer that uses them.

Only weights are quantized, symmetrically: TensorRT takes no zero points. Activations stay as they are, so that nothing
has to be calibrated.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import ml_dtypes
import onnx_ir as ir
import torch

from .writer import GraphWriter, initializer

HEAD = "lm_head.weight"
"""Stays as it is, as an embedding that is the head too does: its errors are the logits' own."""

INT8_LIMIT = 127
INT4_LIMITS = (-8, 7)

INT4_BLOCKS = (32, 16)
"""Inputs that share a scale, the best first: the layer's must be a multiple of it. 32 costs half a bit a weight."""

CLIPPING = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75)
"""Shares of a block's largest weight that int4 scales are tried for: to clip one weight can serve all others."""

LEAST_SCALE = 2.0**-24
"""The least float16 above 0."""


class Quantization(ABC):
    """How a weight [in, out] becomes integers and scales.

    Attributes:
        dtype: Of the integers.
    """

    dtype: ClassVar[ir.DataType]

    @abstractmethod
    def fits(self, inputs: int) -> bool:
        """Whether a layer of so many inputs can be quantized."""

    @abstractmethod
    def scale_shape(self, inputs: int, outputs: int) -> tuple[int, ...]:
        """Shape of the scales."""

    @abstractmethod
    def quantize(self, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The integers [in, out] int8, and the scales, float32 but numbers that float16 holds."""

    @abstractmethod
    def stored(self, integers: torch.Tensor, name: str) -> ir.TensorProtocol:
        """The integers as the file has them."""

    @abstractmethod
    def attributes(self, inputs: int) -> dict[str, Any]:
        """Of the `DequantizeLinear`."""


class Int8PerChannel(Quantization):
    """Eight bits, a scale for each output."""

    dtype = ir.DataType.INT8

    def fits(self, inputs: int) -> bool:
        """See `Quantization.fits`."""
        return True

    def scale_shape(self, inputs: int, outputs: int) -> tuple[int, ...]:
        """See `Quantization.scale_shape`."""
        return (outputs,)

    def quantize(self, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Quantization.quantize`."""
        scales = _representable(weight.abs().amax(dim=0) / INT8_LIMIT)
        return (weight / scales).round().clamp(-INT8_LIMIT, INT8_LIMIT).to(torch.int8), scales

    def stored(self, integers: torch.Tensor, name: str) -> ir.TensorProtocol:
        """See `Quantization.stored`."""
        return ir.Tensor(integers.numpy(), self.dtype, name=name)

    def attributes(self, inputs: int) -> dict[str, Any]:
        """See `Quantization.attributes`."""
        return {"axis": 1}


class Int4PerBlock(Quantization):
    """Four bits, a scale for each block of inputs of each output: that of `CLIPPING` with the least squared error."""

    dtype = ir.DataType.INT4

    def fits(self, inputs: int) -> bool:
        """See `Quantization.fits`."""
        return any(inputs % block == 0 for block in INT4_BLOCKS)

    def scale_shape(self, inputs: int, outputs: int) -> tuple[int, ...]:
        """See `Quantization.scale_shape`."""
        return inputs // _block(inputs), outputs

    def quantize(self, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Quantization.quantize`."""
        blocks = weight.unflatten(0, (-1, _block(len(weight))))  # [in / block, block, out]
        largest = blocks.abs().amax(dim=1, keepdim=True) / INT4_LIMITS[1]
        least = torch.full_like(largest, torch.inf)
        scales = torch.ones_like(largest)
        for share in CLIPPING:
            tried = _representable(largest * share)
            error = (_rounded(blocks, tried) * tried - blocks).square().sum(dim=1, keepdim=True)
            scales = torch.where(error < least, tried, scales)
            least = torch.minimum(error, least)
        return _rounded(blocks, scales).flatten(0, 1).to(torch.int8), scales.squeeze(1)

    def stored(self, integers: torch.Tensor, name: str) -> ir.TensorProtocol:
        """See `Quantization.stored`."""
        return ir.Tensor(integers.numpy().astype(ml_dtypes.int4), self.dtype, name=name)

    def attributes(self, inputs: int) -> dict[str, Any]:
        """See `Quantization.attributes`."""
        return {"axis": 0, "block_size": _block(inputs)}


QUANTIZATIONS: dict[str, type[Quantization]] = {"int8": Int8PerChannel, "int4": Int4PerBlock}


class QuantizingWriter(GraphWriter):
    """Stores the weights of linear layers as integers; what a layer reads of them has the graph's dtype all the same.

    Embedding, head, norms and routers stay as they are.

    Args:
        parameters: See `GraphWriter`.
        dtype: See `GraphWriter`.
        precision: `int8` or `int4`.
    """

    def __init__(self, parameters: Mapping[str, torch.Tensor], dtype: ir.DataType, precision: str) -> None:
        super().__init__(parameters, dtype)
        self._quantization = QUANTIZATIONS[precision]()

    def weight(
        self, parameter: torch.Tensor, *, transposed: bool = False, dtype: ir.DataType | None = None
    ) -> ir.Value:
        """See `GraphWriter.weight`; of a linear layer, what `DequantizeLinear` makes of its integers."""
        name = self._names[id(parameter)]
        is_linear = transposed and dtype is None and name != HEAD
        if not is_linear or not self._quantization.fits(parameter.shape[1]):
            return super().weight(parameter, transposed=transposed, dtype=dtype)
        outputs, inputs = parameter.shape
        scales = self.stored(
            f"{name}.scales",
            lambda: self._quantization.quantize(parameter.detach().T)[1],
            self._quantization.scale_shape(inputs, outputs),
        )
        return self.op(
            "DequantizeLinear",
            self._integers(name, parameter),
            scales,
            dtype=self.dtype,
            shape=(inputs, outputs),
            **self._quantization.attributes(inputs),
        )

    def _integers(self, name: str, parameter: torch.Tensor) -> ir.Value:
        dtype, stored = self._quantization.dtype, f"{name}.integers"

        def load() -> ir.TensorProtocol:
            return self._quantization.stored(self._quantization.quantize(parameter.detach().T)[0], stored)

        key = (stored, dtype)
        if key not in self._initializers:
            self._initializers[key] = initializer(ir.LazyTensor(load, dtype, ir.Shape(parameter.T.shape), name=stored))
        return self._initializers[key]


def _block(inputs: int) -> int:
    """Inputs that share a scale."""
    return next(block for block in INT4_BLOCKS if inputs % block == 0)


def _rounded(blocks: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    return (blocks / scales).round().clamp(*INT4_LIMITS)


def _representable(scales: torch.Tensor) -> torch.Tensor:
    """Scales as float16 has them, none of them 0."""
    rounded: torch.Tensor = scales.half().float().clamp(min=LEAST_SCALE)
    return rounded
