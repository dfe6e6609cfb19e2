"""Weights rounded to the nearest integers, block by block: what a test quantizes a model with."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from minimind_edge.export.quantization import QuantizedMatrix
from minimind_edge.export.quantization.formats import TENSORRT
from minimind_edge.export.quantization.rounding import nearest

LEAST_SCALE = 2.0**-14


def rounded(weight: np.ndarray, bits: int, block: int, *, zero_points: bool) -> QuantizedMatrix:
    """A weight [out, in] as integers of so many bits, symmetric or with zero points."""
    outputs, inputs = weight.shape
    blocks = weight.reshape(outputs, inputs // block, block)
    most, middle = 2**bits - 1, 2 ** (bits - 1)
    if zero_points:
        low, high = np.minimum(blocks.min(-1), 0), np.maximum(blocks.max(-1), 0)
        scales = (high - low) / most
    else:
        scales = np.abs(blocks).max(-1) / (middle - 1)
    scales = np.maximum(scales, LEAST_SCALE).astype(np.float16).astype(np.float32)
    zeros = np.clip(np.round(-low / scales), 0, most) if zero_points else np.full(scales.shape, middle)
    integers = np.clip(np.round(blocks / scales[..., None]) + zeros[..., None], 0, most)
    return QuantizedMatrix(
        bits,
        block,
        integers.astype(np.uint8).reshape(outputs, inputs),
        scales,
        zeros.astype(np.uint8) if zero_points else None,
    )


def quantized(
    model: Any, bits: int, block: int, *, zero_points: bool = False, embedding_bits: int | None = None
) -> dict[str, QuantizedMatrix]:
    """Every matrix of a model but its routers, by its name."""
    matrices = {}
    for name, parameter in model.named_parameters():
        if parameter.dim() == 2 and not name.endswith("mlp.gate.weight"):
            is_table = "embed_tokens" in name or "lm_head" in name
            own = embedding_bits if is_table and embedding_bits else bits
            matrices[name] = rounded(parameter.detach().numpy(), own, block, zero_points=zero_points)
    return matrices


def tensorrt_weights(model: Any, precision: str) -> dict[str, QuantizedMatrix]:
    """The linear layers of the blocks as target `tensorrt` stores them, rounded to nearest; none for floats."""
    if precision not in ("int8", "int4"):
        return {}
    names = (name for name, _ in model.named_parameters() if name.endswith("_proj.weight"))
    return {name: nearest(model.get_parameter(name).detach(), TENSORRT.of(precision)) for name in names}


def with_weights(model: Any, matrices: Mapping[str, QuantizedMatrix]) -> Any:
    """A copy of the model that computes with what the integers stand for."""
    changed = copy.deepcopy(model)
    with torch.no_grad():
        for name, parameter in changed.named_parameters():
            if name in matrices:
                parameter.copy_(torch.from_numpy(matrices[name].dequantized()))
    return changed
