"""A weight as integers, with a scale and a zero point for each block of its inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Integers: TypeAlias = npt.NDArray[np.uint8]
Floats: TypeAlias = npt.NDArray[np.float32]

BITS = (4, 8)


@dataclass(frozen=True, eq=False)
class QuantizedMatrix:
    """What a graph stores of a weight [out, in]: value = (integer - zero point) * scale.

    Attributes:
        bits: 4 or 8.
        block: Inputs that share a scale; in is a multiple of it.
        integers: [out, in] uint8, unsigned: 0 to 15, or to 255.
        scales: [out, in / block] float32, above 0, numbers that float16 holds, so that a file may have them as such.
        zero_points: [out, in / block] uint8; None where all are the middle, 8 or 128.
    """

    bits: int
    block: int
    integers: Integers
    scales: Floats
    zero_points: Integers | None = None

    def __post_init__(self) -> None:
        outputs, inputs = self.integers.shape
        assert self.bits in BITS
        assert inputs % self.block == 0
        assert self.scales.shape == (outputs, inputs // self.block)
        assert self.zero_points is None or self.zero_points.shape == self.scales.shape

    @property
    def middle(self) -> int:
        """The zero point of symmetric weights."""
        return int(2 ** (self.bits - 1))

    @property
    def nbytes(self) -> int:
        """Bytes on disk, with scales in float16 and zero points packed as the integers are."""
        zero_points = 0 if self.zero_points is None else self.zero_points.size * self.bits / 8
        return round(self.integers.size * self.bits / 8 + self.scales.size * 2 + zero_points)

    def dequantized(self) -> Floats:
        """The weight that a graph computes with, [out, in] float32."""
        zeros: Integers | int = self.middle if self.zero_points is None else self.zero_points[..., None]
        blocks = self.integers.reshape(*self.scales.shape, self.block)
        centred = blocks.astype(np.float32) - np.float32(zeros)
        values: Floats = centred * self.scales[..., None]
        return values.reshape(self.integers.shape)
