"""Exact conversion from interleaved RoPE to rotate-half: a permutation of the rows of q and k."""

from __future__ import annotations

import torch


def interleaved_to_rotate_half(weight: torch.Tensor, num_heads: int) -> torch.Tensor:
    """Reorder each head's rows, even ones first, then odd: row 2i goes to i, row 2i + 1 to i + D/2.

    Interleaved RoPE rotates the pair (2i, 2i + 1) by the angle that rotate-half gives to (i, i + D/2). With q and k
    permuted alike, every score is the sum of the same products, so the model is the same.

    Args:
        weight: Weight of a q or k projection, [num_heads * D, H], D even.
        num_heads: Number of heads of this projection.

    Source:
        Su et al. 2021, "RoFormer", equation 34 (interleaved pairs).
    """
    pairs = weight.reshape(num_heads, -1, 2, weight.shape[1])  # [heads, D/2, 2, H]
    return pairs.transpose(1, 2).flatten(0, 2)
