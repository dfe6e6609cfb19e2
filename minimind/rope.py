"""Rotary position embedding and its scalings, in the rotate-half convention: element i is paired with i + D/2.

Source:
    Su et al. 2021, "RoFormer", equation 34; Peng et al. 2023, "YaRN", equations 17 to 23.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from .config import MiniMindConfig
from .rope_scaling import complete_scaling


def rope_frequencies(
    dim: int, end: int, rope_base: float = 1e6, rope_scaling: Mapping[str, Any] | None = None
) -> torch.Tensor:
    """The angle per position of each rotated pair, `rope_base ** (-2 i / dim)`, after RoPE scaling.

    Args:
        dim: Width D of a head, even.
        end: Context length in tokens; MiniMind's own YaRN has an effect only if it exceeds the original context.
        rope_base: Base of the geometric series.
        rope_scaling: A type of `SCALINGS` and its parameters; None for plain RoPE.

    Returns:
        Angles in radians per token, [D/2] float32 on the CPU, also under a meta-device context.

    Raises:
        ConfigError: The scaling is unknown, or a parameter is missing or out of range.
    """
    pairs = torch.arange(0, dim, 2, dtype=torch.float32, device="cpu")
    frequencies = 1.0 / rope_base ** (pairs / dim)
    if rope_scaling is None:
        return frequencies
    scaling = complete_scaling(rope_scaling)
    if scaling["type"] in OWN_YARN and end <= scaling["original_max_position_embeddings"]:
        return frequencies
    return SCALED[scaling["type"]](frequencies, rope_base, scaling)


def _yarn(frequencies: torch.Tensor, base: float, scaling: Mapping[str, Any]) -> torch.Tensor:
    """YaRN, equations 18 to 20; MiniMind's own ends the ramp at the last pair, transformers' at twice that index."""
    own = scaling["type"] == "yarn"
    pairs = len(frequencies)
    low, high = (_pair_with_turns(scaling[name], 2 * pairs, base, scaling) for name in ("beta_fast", "beta_slow"))
    if own or scaling["truncate"]:
        low, high = math.floor(low), math.ceil(high)
    low, high = min(max(low, 0), 2 * pairs), min(high, pairs - 1 if own else 2 * pairs - 1)
    width = max(high - low, 0.001) if own or high == low else high - low
    index = torch.arange(pairs, dtype=torch.float32, device="cpu")
    ramp = ((index - low) / width).clamp(0, 1)
    scaled: torch.Tensor = frequencies * (1 - ramp + ramp / scaling["factor"])
    return scaled


def _pair_with_turns(turns: float, dim: int, base: float, scaling: Mapping[str, Any]) -> float:
    """The index of the pair with this many turns over the original context (YaRN, equation 20 solved for i)."""
    wavelength = scaling["original_max_position_embeddings"] / (turns * 2 * math.pi)
    return dim * math.log(wavelength) / (2 * math.log(base))


def _yarn_of_october_2025(frequencies: torch.Tensor, base: float, scaling: Mapping[str, Any]) -> torch.Tensor:
    """Upstream's YaRN of 2025-10-17 to 2025-12-01: divides pairs with less than a turn over the original context.

    The pairs before the first of those are scaled by (beta s - beta + 1) / (beta s), where s is the factor and beta
    is linear in the pair's index, from `beta_slow` at pair 0 to `beta_fast` at the last pair.
    """
    pairs, factor = len(frequencies), scaling["factor"]
    share = torch.arange(pairs, dtype=torch.float32, device="cpu") / max(pairs - 1, 1)
    beta = scaling["beta_slow"] + (scaling["beta_fast"] - scaling["beta_slow"]) * share
    slow = (2 * math.pi / frequencies > scaling["original_max_position_embeddings"]).cumsum(0) > 0
    return frequencies * torch.where(slow, 1.0 / factor, (beta * factor - beta + 1) / (beta * factor))


def _linear(frequencies: torch.Tensor, base: float, scaling: Mapping[str, Any]) -> torch.Tensor:
    """Position interpolation: Chen et al. 2023, "Extending Context Window", equation 3."""
    scaled: torch.Tensor = frequencies / scaling["factor"]
    return scaled


def _dynamic(frequencies: torch.Tensor, base: float, scaling: Mapping[str, Any]) -> torch.Tensor:
    """Dynamic NTK scaling within `max_position_embeddings`, where it does not change the frequencies.

    Beyond, the base would depend on the length of the text; a model's positions end before that.
    """
    return frequencies


def _llama3(frequencies: torch.Tensor, base: float, scaling: Mapping[str, Any]) -> torch.Tensor:
    """The scaling of Llama 3.1: long wavelengths grow by the factor, short ones stay, those between are blended."""
    turns = scaling["original_max_position_embeddings"] * frequencies / (2 * math.pi)
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    kept = ((turns - low) / (high - low)).clamp(0, 1)
    scaled: torch.Tensor = frequencies * ((1 - kept) / scaling["factor"] + kept)
    return scaled


OWN_YARN = frozenset({"yarn", "yarn-2025-10"})
SCALED: dict[str, Callable[[torch.Tensor, float, Mapping[str, Any]], torch.Tensor]] = {
    "yarn": _yarn,
    "yarn-2025-10": _yarn_of_october_2025,
    "yarn-transformers": _yarn,
    "linear": _linear,
    "dynamic": _dynamic,
    "llama3": _llama3,
}
"""The functions of the types in `SCALINGS`: from frequencies [D/2], base and parameters to scaled frequencies [D/2]."""


def attention_factor(rope_scaling: Mapping[str, Any] | None) -> float:
    """The factor of cosine and sine: 1, except for YaRN in transformers' form or where it is given."""
    return 1.0 if rope_scaling is None else float(complete_scaling(rope_scaling).get("attention_factor", 1.0))


def precompute_freqs_cis(
    dim: int, end: int = 32768, rope_base: float = 1e6, rope_scaling: Mapping[str, Any] | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The cosine and sine of every position's angles, each [end, dim] float32 with two equal halves.

    Args:
        dim: Width D of a head, even.
        end: Number of positions.
        rope_base: Base of the frequencies.
        rope_scaling: A type of `SCALINGS` and its parameters, or None.
    """
    positions = torch.arange(end, dtype=torch.float32, device="cpu")
    return _cos_sin(positions, rope_frequencies(dim, end, rope_base, rope_scaling), attention_factor(rope_scaling))


def _cos_sin(positions: torch.Tensor, frequencies: torch.Tensor, factor: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The cosine and sine [..., D] of positions [...] times frequencies [D/2]; the second half repeats the first."""
    angles = positions.unsqueeze(-1) * frequencies
    angles = torch.cat((angles, angles), dim=-1)
    if factor == 1.0:
        return angles.cos(), angles.sin()
    return angles.cos() * factor, angles.sin() * factor


def rotate_half(x: torch.Tensor) -> torch.Tensor:
    """Rotate each pair (i, i + D/2) of the last axis by a right angle."""
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
    """The cosine and sine of any positions, computed without a table that would limit them.

    The frequencies are neither parameter nor buffer, so that `half()`, meta-device loading and state dicts skip them.
    """

    def __init__(self, config: MiniMindConfig) -> None:
        super().__init__()
        self.frequencies = rope_frequencies(
            config.head_dim, config.max_position_embeddings, config.rope_theta, config.rope_scaling
        )
        self.factor = attention_factor(config.rope_scaling)

    def forward(self, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute (cos, sin), each [B, S, D] float32, of `position_ids` [B, S] int64."""
        return _cos_sin(position_ids.float(), self.frequencies.to(position_ids.device), self.factor)
