"""Rounding to nearest: the grid of each block of weights, and the inputs that integers are multiplied with."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .formats import Format, QuantizedMatrix

LEAST_SCALE = 2.0**-24
"""The smallest positive float16."""

LARGEST_INPUT = 127
"""The largest integer that a layer's input is rounded to; the smallest is its negative."""

INT8_SHARES = (1.0,)
"""The share of a block's range that int8 scales cover, all of it: clipping the largest weight costs more than the finer
steps gain."""

INT4_SHARES = tuple(1.0 - 0.025 * step for step in range(17))
"""The shares of a block's range that int4 scales are tried for: clipping the largest weight can serve all others."""

NUMBERS_AT_ONCE = 1 << 17
"""The number of weights that are searched together: so many stay in a processor's cache, where a search is several
times as fast."""


@dataclass(frozen=True)
class Grid:
    """The numbers that a weight [out, in] may take: (integer - zero) * scale for integers of so many bits.

    Attributes:
        bits: 4 or 8.
        block: Inputs that share a scale.
        symmetric: Whether every zero is the middle, so that none is stored.
        scales: [out, blocks] float32, numbers that float16 holds.
        zeros: [out, blocks] float32, whole numbers.
    """

    bits: int
    block: int
    symmetric: bool
    scales: torch.Tensor
    zeros: torch.Tensor

    @property
    def top(self) -> int:
        """The largest integer."""
        return int(2**self.bits - 1)

    def integers(self, weight: torch.Tensor) -> torch.Tensor:
        """The nearest integers of a weight [out, in], float32."""
        blocks = padded(weight, self.block).unflatten(1, (-1, self.block))
        return rounded(blocks, self.scales, self.zeros, self.top).flatten(1)[:, : weight.shape[1]]

    def values(self, integers: torch.Tensor) -> torch.Tensor:
        """The weights that integers [out, in] stand for."""
        blocks = padded(integers, self.block).unflatten(1, (-1, self.block))
        values: torch.Tensor = (blocks - self.zeros[..., None]) * self.scales[..., None]
        return values.flatten(1)[:, : integers.shape[1]]

    def matrix(self, integers: torch.Tensor) -> QuantizedMatrix:
        """The weight as graphs store it."""
        return QuantizedMatrix(
            bits=self.bits,
            block=self.block,
            integers=integers.to(torch.uint8).contiguous().numpy(),
            scales=self.scales.numpy(),
            zero_points=None if self.symmetric else self.zeros.to(torch.uint8).numpy(),
        )


def fit_grid(
    weight: torch.Tensor, bits: int, block: int, *, symmetric: bool, importance: torch.Tensor | None = None
) -> Grid:
    """The grid with the least squared error of rounding to nearest, among a few clipped ranges.

    Args:
        weight: [out, in], finite.
        bits: 4 or 8.
        block: Inputs that share a scale.
        symmetric: Whether every zero is the middle.
        importance: The weight of each input's error, [in]; None for equal weights.
    """
    rows = padded(weight, block).split(max(1, NUMBERS_AT_ONCE // weight.shape[1]))
    weights = padded(torch.ones(weight.shape[1]) if importance is None else importance, block)
    found = [_fit(part.unflatten(1, (-1, block)), bits, symmetric, weights.unflatten(0, (-1, block))) for part in rows]
    scales, zeros = (torch.cat(parts) for parts in zip(*found, strict=True))
    return Grid(bits, block, symmetric, scales, zeros)


def _fit(
    blocks: torch.Tensor, bits: int, symmetric: bool, importance: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scales and zeros of blocks [out, blocks, block]."""
    top = 2**bits - 1
    low, high = blocks.amin(-1).clamp(max=0), blocks.amax(-1).clamp(min=0)
    least = torch.full_like(low, torch.inf)
    scales, zeros = torch.ones_like(low), torch.zeros_like(low)
    for share in INT4_SHARES if bits == 4 else INT8_SHARES:
        for scale, zero in _candidates(low * share, high * share, top, symmetric):
            error = _squared_error(blocks, scale, zero, top, importance)
            better = error < least
            scales, zeros = torch.where(better, scale, scales), torch.where(better, zero, zeros)
            least = torch.minimum(error, least)
    return scales, zeros


def _squared_error(
    blocks: torch.Tensor, scales: torch.Tensor, zeros: torch.Tensor, top: int, importance: torch.Tensor
) -> torch.Tensor:
    """The squared error of rounding blocks [out, blocks, block] to nearest, [out, blocks]."""
    steps = (blocks / scales[..., None]).add_(zeros[..., None])
    misses = steps.round().clamp_(0, top).sub_(steps)
    error: torch.Tensor = misses.square_().mul_(importance).sum(-1) * scales.square()
    return error


def _candidates(
    low: torch.Tensor, high: torch.Tensor, top: int, symmetric: bool
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Scales and zeros for a range."""
    if not symmetric:
        scale = representable((high - low) / top)
        return [(scale, (-low / scale).round().clamp(0, top))]
    middle = (top + 1) / 2
    zero = torch.full_like(low, middle)
    largest = torch.maximum(-low, high)
    return [(representable(largest / steps), zero) for steps in (middle, middle - 1)]


def rounded(blocks: torch.Tensor, scales: torch.Tensor, zeros: torch.Tensor, top: int) -> torch.Tensor:
    """The nearest integers of blocks [out, blocks, block], float32."""
    return (blocks / scales[..., None] + zeros[..., None]).round().clamp(0, top)


def representable(scales: torch.Tensor) -> torch.Tensor:
    """Scales as float16 has them, none of them 0."""
    nearest: torch.Tensor = scales.half().float().clamp(min=LEAST_SCALE)
    return nearest


def nearest(weight: torch.Tensor, wanted: Format) -> QuantizedMatrix:
    """Round a weight [out, in] to the nearest integers."""
    grid = nearest_grid(weight, wanted)
    return grid.matrix(grid.integers(weight))


def nearest_grid(weight: torch.Tensor, wanted: Format) -> Grid:
    """The grid with the least squared error of rounding a weight [out, in] to nearest."""
    return fit_grid(weight, wanted.bits, block_of(weight, wanted), symmetric=wanted.symmetric)


def rounded_inputs(inputs: torch.Tensor, block: int) -> torch.Tensor:
    """Inputs [..., in] as `MatMulNBits` has them at accuracy level 4: eight bits, a scale for each token and block."""
    blocks = padded(inputs, block).unflatten(-1, (-1, block))
    scales = blocks.abs().amax(-1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny) / LARGEST_INPUT
    values: torch.Tensor = (blocks / scales).round() * scales
    return values.flatten(-2)[..., : inputs.shape[-1]]


def padded(numbers: torch.Tensor, block: int) -> torch.Tensor:
    """Numbers with zeros after the last axis, up to a multiple of the block."""
    missing = -numbers.shape[-1] % block
    return torch.nn.functional.pad(numbers, (0, missing)) if missing else numbers


def block_of(weight: torch.Tensor, wanted: Format) -> int:
    """The block size of a weight [out, in] that the format can store."""
    block = wanted.block_of(weight.shape[1])
    assert block is not None
    return block
