"""Numeric formats of integer weights for each target, and the settings of a quantization."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Integers: TypeAlias = npt.NDArray[np.uint8]
Floats: TypeAlias = npt.NDArray[np.float32]

BITS = (4, 8)

INT8_BLOCKS = (128, 256)
"""The block sizes that precision int8 can begin with. Larger ones decode faster and are less accurate."""

BLOCKS = (256, 128, 64, 32, 16)
"""Block sizes (the number of inputs that share a scale), the fastest first."""

PADDED_BLOCK = 32
"""The block size of a width that no block divides, whose last block is only partly filled. Of a width of 200, blocks of
32 store the fewest bits: larger ones pad more, smaller ones have more scales."""


@dataclass(frozen=True)
class QuantizationSettings:
    """How a model is quantized.

    Attributes:
        int8_share: The share of the blocks' weights that precision int4 keeps at eight bits, those that matter most.
        int4_head: Whether precision int4 rounds the head to four bits too; the embedding keeps eight.
        int8_block: The largest block of precision int8, one of `INT8_BLOCKS`.
        rows: Number of texts that the model writes for GPTQ to calibrate on.
        length: Tokens of each text. Many short texts tell more than few long ones of as many tokens.
        measured_rows: Number of these texts that the sensitivity is estimated on, forwards and backwards.
        held_out_rows: Number of further texts, on which the cost of the rounding is measured.
    """

    int8_share: float = 0.05
    int4_head: bool = False
    int8_block: int = 128
    rows: int = 64
    length: int = 128
    measured_rows: int = 24
    held_out_rows: int = 8


@dataclass(frozen=True)
class Format:
    """How a weight [out, in] is stored.

    Attributes:
        bits: 4 or 8.
        block: The largest number of inputs that share a scale; None for all inputs of an output (per channel).
        symmetric: Whether every zero point is the middle, so that none is stored.
        rounds_inputs: Whether the product rounds its inputs to eight bits, as `MatMulNBits` does at accuracy level 4.
        pads: Whether the last block of a width may be only partly filled.
    """

    bits: int
    block: int | None
    symmetric: bool
    rounds_inputs: bool = True
    pads: bool = True

    def block_of(self, inputs: int) -> int | None:
        """The block size for a weight of this many inputs; None where the format cannot store it.

        The largest of `BLOCKS` that divides the width is taken. Where none does, the last block is only partly filled.
        """
        if self.block is None:
            return inputs
        fitting = (block for block in BLOCKS if block <= self.block and inputs % block == 0)
        return next(fitting, min(PADDED_BLOCK, self.block) if self.pads else None)

    def at_most(self, block: int | None) -> Format:
        """The same format, its blocks no larger than this."""
        return self if block is None or self.block is None else replace(self, block=min(block, self.block))


INT8 = Format(bits=8, block=128, symmetric=True)
INT4 = Format(bits=4, block=128, symmetric=False)
"""Large blocks, which ONNX Runtime multiplies with fastest; eight bits for sensitive layers make up for their cost."""


@dataclass(frozen=True)
class TargetFormats:
    """The formats that a target's graphs can store.

    Attributes:
        int8: The format of eight bits.
        int4: The format of four bits.
        int8_tables: Whether embedding and head are stored in eight bits; else they stay float.
        int8_blocks: Block sizes that eight bits can choose from, each with the time of a decode step relative to the
            first; docs/graphs.md has the measurement. Empty where the format has no choice.
    """

    int8: Format
    int4: Format
    int8_tables: bool
    int8_blocks: tuple[tuple[int, float], ...]

    def with_int8_block(self, block: int) -> TargetFormats:
        """The same, where eight bits begin with blocks of at least this size.

        Args:
            block: One of `INT8_BLOCKS`. Blocks of 256 take 0.95 of a decode step's time; docs/graphs.md has the
                measurement.
        """
        if self.int8.block is None or block <= self.int8.block:
            return self
        return replace(self, int8=replace(self.int8, block=block), int8_blocks=((block, 0.95), *self.int8_blocks))

    def of(self, precision: str) -> Format:
        """The format of most weights in a precision, `int8` or `int4`."""
        return self.int4 if precision == "int4" else self.int8


BLOCKWISE = TargetFormats(INT8, INT4, int8_tables=True, int8_blocks=((128, 1.0), (64, 1.08), (32, 1.33)))

TENSORRT = TargetFormats(
    int8=Format(bits=8, block=None, symmetric=True, rounds_inputs=False),
    int4=Format(bits=4, block=32, symmetric=True, rounds_inputs=False, pads=False),
    int8_tables=False,
    int8_blocks=(),
)
"""The formats of target `tensorrt`: TensorRT takes no zero points and no padded blocks, and multiplies in float16."""

TARGET_FORMATS = {"ort": BLOCKWISE, "portable": BLOCKWISE, "tensorrt": TENSORRT}


@dataclass(frozen=True, eq=False)
class QuantizedMatrix:
    """A quantized weight [out, in] as a graph stores it: value = (integer - zero point) * scale.

    Attributes:
        bits: 4 or 8.
        block: Inputs that share a scale; the last block holds what is left of the width.
        integers: [out, in] uint8, unsigned: 0 to 15, or to 255.
        scales: [out, blocks] float32, above 0, numbers that float16 holds, so that a file may have them as such.
        zero_points: [out, blocks] uint8; None where all are the middle, 8 or 128.
    """

    bits: int
    block: int
    integers: Integers
    scales: Floats
    zero_points: Integers | None = None

    def __post_init__(self) -> None:
        outputs, inputs = self.integers.shape
        assert self.bits in BITS
        assert self.scales.shape == (outputs, -(-inputs // self.block))
        assert self.zero_points is None or self.zero_points.shape == self.scales.shape

    @property
    def middle(self) -> int:
        """The zero point of symmetric weights."""
        return int(2 ** (self.bits - 1))

    @property
    def is_padded(self) -> bool:
        """Whether the last block is only partly filled."""
        return bool(self.integers.shape[1] % self.block)

    def split(self, rows: Sequence[int]) -> list[QuantizedMatrix]:
        """The matrices of so many rows each, in their order, which share this one's memory."""
        parts, start = [], 0
        for count in rows:
            part = slice(start, start + count)
            zeros = None if self.zero_points is None else self.zero_points[part]
            parts.append(QuantizedMatrix(self.bits, self.block, self.integers[part], self.scales[part], zeros))
            start += count
        return parts

    def padded_integers(self) -> Integers:
        """The integers with the last block filled by zero points, [out, blocks * block]."""
        missing = self.scales.shape[1] * self.block - self.integers.shape[1]
        if not missing:
            return self.integers
        last = np.uint8(self.middle) if self.zero_points is None else self.zero_points[:, -1:]
        filling = np.broadcast_to(last, (len(self.integers), missing))
        return np.concatenate((self.integers, filling), axis=1)

    def dequantized(self) -> Floats:
        """The weight that a graph computes with, [out, in] float32."""
        zeros: Integers | int = self.middle if self.zero_points is None else self.zero_points[..., None]
        blocks = self.padded_integers().reshape(*self.scales.shape, self.block)
        centred = blocks.astype(np.float32) - np.float32(zeros)
        values: Floats = (centred * self.scales[..., None]).reshape(len(self.integers), -1)
        return np.ascontiguousarray(values[:, : self.integers.shape[1]])
