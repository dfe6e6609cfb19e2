"""Scales of the int8 KV cache: the range of a model's keys and values on text that it writes itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import ExportError
from ..progress import Progress
from .calibration import written_text
from .formats import QuantizationSettings

if TYPE_CHECKING:
    from minimind_edge.minimind import MiniMindForCausalLM

LARGEST = 127
"""The integer that the largest value becomes; the operator clips to -128 and 127."""

MARGIN = 1.25
"""The factor on the largest number that was seen: clipping a number out of range costs more than larger steps do."""

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class CacheScales:
    """The scales of one layer's cached keys and values.

    Attributes:
        key: [H_kv, D] float32, positive.
        value: [H_kv, D] float32, positive.
    """

    key: Float32
    value: Float32


@dataclass(frozen=True)
class CalibratedCache:
    """The scales of a model's int8 KV cache, and text to measure their cost on.

    Attributes:
        scales: The scales of each layer.
        held_out: Text that the model wrote and the scales were not made from, token ids [N, S] int64.
    """

    scales: tuple[CacheScales, ...]
    held_out: torch.Tensor


def calibrate_cache(
    model: MiniMindForCausalLM,
    prompts: Sequence[Sequence[int]],
    settings: QuantizationSettings | None = None,
    progress: Progress | None = None,
) -> CalibratedCache:
    """Let a model write text, and measure its keys and values on it.

    Args:
        model: The model that the graph computes, its weights rounded or not; in float32 on the CPU, in eval mode.
        prompts: Token ids of the prompts that the text begins with, at least one.
        settings: The settings, of which `length`, `held_out_rows` and `measured_rows` are used.
        progress: Called with a stage's name and the share that is done.

    Raises:
        ExportError: A key or a value is not a finite number.
    """
    settings = settings or QuantizationSettings()
    length = min(settings.length, model.config.max_position_embeddings)
    rows = settings.held_out_rows + settings.measured_rows
    held_out, tokens = written_text(model, prompts, rows, length, progress).tensor_split([settings.held_out_rows])
    return CalibratedCache(cache_scales(model, tokens), held_out)


@torch.no_grad()
def cache_scales(model: MiniMindForCausalLM, tokens: torch.Tensor) -> tuple[CacheScales, ...]:
    """The scales of each layer for what a model caches of some text.

    Keys are cached after their rotation, which mixes channels i and i + D/2: at positions later than the text has,
    either of them may become as large as the norm of the pair. So both get their scale from that norm, which no
    rotation changes.

    Args:
        model: In float32 on the CPU, in eval mode.
        tokens: Texts without padding, [N, S] int64.

    Raises:
        ExportError: A key or a value is not a finite number.
    """
    presents = model(tokens, use_cache=True, logits_to_keep=1).past_key_values
    scales = []
    for layer, (key, value) in enumerate(presents):
        first, second = key.chunk(2, dim=-1)
        pairs = torch.hypot(first, second)
        largest = torch.cat((pairs, pairs), dim=-1).amax(dim=(0, 2)), value.abs().amax(dim=(0, 2))
        if not all(part.isfinite().all() for part in largest):
            raise ExportError(f"layer {layer} caches a number that is not finite, which no integer stands for")
        scales.append(CacheScales(*(_step(part) for part in largest)))
    return tuple(scales)


def _step(largest: torch.Tensor) -> Float32:
    """The scale of each channel; a channel of zeros gets the smallest scale that float32 can divide by."""
    least = 1 / torch.finfo(torch.float32).max * 2
    scales: Float32 = (MARGIN * largest / LARGEST).clamp(min=least).numpy()
    return scales
