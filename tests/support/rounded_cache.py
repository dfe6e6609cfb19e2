"""Eager PyTorch with keys and values rounded to eight bits: what a graph with an int8 cache is held against."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from minimind_edge.export.quantization.kv_cache_scales import CacheScales
from minimind_edge.minimind import Attention


def integers(numbers: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """`numbers` [..., H_kv, S, D] by scales [H_kv, D]: to the nearest, ties to the even one, saturating."""
    return np.clip(np.rint(numbers / scales[:, None]), -128, 127).astype(np.int8)


class RoundedCacheAttention(Attention):
    """Attention that sees of each key and value, its own token's too, what the integer in the cache stands for."""

    scales: CacheScales

    def _fused(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        return super()._fused(q, self._rounded(k, self.scales.key), self._rounded(v, self.scales.value), bias)

    @staticmethod
    def _rounded(numbers: torch.Tensor, scales: np.ndarray) -> torch.Tensor:
        rounded = integers(numbers.numpy(), scales).astype(np.float32) * scales[:, None]
        return torch.from_numpy(rounded)


def with_rounded_cache(model: Any, scales: Sequence[CacheScales]) -> Any:
    """A copy of a model that attends to rounded keys and values; those that it presents are not rounded."""
    rounding = copy.deepcopy(model)
    for block, layer_scales in zip(rounding.model.layers, scales, strict=True):
        block.self_attn.__class__ = RoundedCacheAttention
        block.self_attn.scales = layer_scales
        assert block.self_attn.flash
    return rounding
