"""Rotary position embedding with YaRN, in the rotate-half convention: element i is paired with i + D/2.

Source:
    Su et al. 2021, "RoFormer", equation 34; Peng et al. 2023, "YaRN", equations 17 to 23.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from .config import YARN_DEFAULTS, MiniMindConfig


def rope_frequencies(
    dim: int, end: int, rope_base: float = 1e6, rope_scaling: dict[str, Any] | None = None
) -> torch.Tensor:
    """Angle per position of each rotated pair, `rope_base ** (-2 i / dim)`, stretched by YaRN where it applies.

    Args:
        dim: Width D of a head, even.
        end: Context length in tokens; YaRN acts only where it exceeds the original one.
        rope_base: Base of the geometric series.
        rope_scaling: YaRN parameters, see `YARN_DEFAULTS`; None for plain RoPE.

    Returns:
        Radians per token, [D/2] float32 on the CPU, also under a meta-device context.
    """
    pairs = torch.arange(0, dim, 2, dtype=torch.float32, device="cpu")
    frequencies = 1.0 / rope_base ** (pairs / dim)
    if rope_scaling is None:
        return frequencies
    yarn = YARN_DEFAULTS | rope_scaling
    if end <= yarn["original_max_position_embeddings"]:
        return frequencies
    ramp = _interpolation_ramp(dim, rope_base, yarn)
    stretched: torch.Tensor = frequencies * (1 - ramp + ramp / yarn["factor"])
    return stretched


def _interpolation_ramp(dim: int, rope_base: float, yarn: dict[str, Any]) -> torch.Tensor:
    """0 for pairs that turn often enough to extrapolate, 1 for pairs to interpolate, linear between; [D/2] float32."""

    def pair_with_turns(turns: float) -> float:
        """Index of the pair that makes this many turns over the original context (YaRN, equation 20 solved for i)."""
        wavelength = yarn["original_max_position_embeddings"] / (turns * 2 * math.pi)
        return dim * math.log(wavelength) / (2 * math.log(rope_base))

    low = max(math.floor(pair_with_turns(yarn["beta_fast"])), 0)
    high = min(math.ceil(pair_with_turns(yarn["beta_slow"])), dim // 2 - 1)
    index = torch.arange(dim // 2, dtype=torch.float32, device="cpu")
    return ((index - low) / max(high - low, 0.001)).clamp(0, 1)


def attention_factor(rope_scaling: dict[str, Any] | None) -> float:
    """What YaRN multiplies cosine and sine by; 1 for plain RoPE and for MiniMind's own YaRN."""
    return 1.0 if rope_scaling is None else float((YARN_DEFAULTS | rope_scaling)["attention_factor"])


def precompute_freqs_cis(
    dim: int, end: int = 32768, rope_base: float = 1e6, rope_scaling: dict[str, Any] | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosine and sine of every position's angles, each [end, dim] float32 with both halves alike.

    Args:
        dim: Width D of a head, even.
        end: Number of positions, in tokens.
        rope_base: Base of the frequencies.
        rope_scaling: YaRN parameters or None.
    """
    positions = torch.arange(end, dtype=torch.float32, device="cpu")
    return _cos_sin(positions, rope_frequencies(dim, end, rope_base, rope_scaling), attention_factor(rope_scaling))


def _cos_sin(positions: torch.Tensor, frequencies: torch.Tensor, factor: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosine and sine [..., D] of positions [...] times frequencies [D/2], the second half repeating the first."""
    angles = positions.unsqueeze(-1) * frequencies
    angles = torch.cat((angles, angles), dim=-1)
    if factor == 1.0:
        return angles.cos(), angles.sin()
    return angles.cos() * factor, angles.sin() * factor


def rotate_half(x: torch.Tensor) -> torch.Tensor:
    """Turn each pair (i, i + D/2) of the last axis by a right angle."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((-second, first), dim=-1)


def apply_rotary_pos_emb(
    q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, unsqueeze_dim: int = 1
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rotate queries and keys by their positions' angles; the results keep their dtypes.

    Args:
        q: Queries: [B, S, H, D] with cos [S, D], or with cos [B, S, D] and `unsqueeze_dim=2`; or [B, H, S, D] with cos
            [B, S, D].
        k: Keys, laid out as `q`.
        cos: Cosine of the angles, float32.
        sin: Sine of the angles, float32.
        unsqueeze_dim: Axis to add to `cos` and `sin` for the heads.
    """
    cos, sin = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)
    rotated_q = (q * cos + rotate_half(q) * sin).to(q.dtype)
    rotated_k = (k * cos + rotate_half(k) * sin).to(k.dtype)
    return rotated_q, rotated_k


class RotaryEmbedding(nn.Module):
    """Cosine and sine for any positions, computed instead of looked up: no table, no limit but float32's.

    The frequencies are neither parameter nor buffer: `half()`, meta-device loading and state dicts leave them alone.
    """

    def __init__(self, config: MiniMindConfig) -> None:
        super().__init__()
        self.frequencies = rope_frequencies(
            config.head_dim, config.max_position_embeddings, config.rope_theta, config.rope_scaling
        )
        self.factor = attention_factor(config.rope_scaling)

    def forward(self, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (cos, sin), each [B, S, D] float32, of `position_ids` [B, S] int64."""
        return _cos_sin(position_ids.float(), self.frequencies.to(position_ids.device), self.factor)
