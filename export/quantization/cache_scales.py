"""Scales of a cache of eight bits: how far the keys and values of a model go on text that it writes itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import ExportError
from .calibration import written_text
from .settings import QuantizationSettings

if TYPE_CHECKING:
    from minimind_edge.minimind import MiniMindForCausalLM

Progress = Callable[[str, float], None]

LARGEST = 127
"""Of a signed integer of eight bits; the operator writes -128 too, for what lies beyond."""

MARGIN = 1.25
"""Over the largest number that was seen: of what is beyond, a step's error becomes one of any size."""

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class CacheScales:
    """What one step of a cached integer stands for, in one layer.

    Attributes:
        key: [H_kv, D] float32, positive.
        value: [H_kv, D] float32, positive.
    """

    key: Float32
    value: Float32


@dataclass(frozen=True)
class CalibratedCache:
    """Scales, and text that they were not made for.

    Attributes:
        scales: One for each layer.
        held_out: Token ids that the model wrote, [N, S] int64.
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
        model: In float32 on the CPU, in eval mode: the one that the graph computes, its weights rounded or not.
        prompts: Token ids that the model writes text behind, at least one.
        settings: `length`, `held_out_rows` and `measured_rows` count.
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
    """Each layer's scales for what a model caches of some text.

    A key is cached rotated, and its position turns channels i and i + D/2 into each other: at a later position than the
    text has, either of them may be as large as both together. So their scale follows from the length of the pair, which
    no rotation changes.

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
    """The scale of each channel; a channel of zeros alone gets the smallest that float32 divides by."""
    least = 1 / torch.finfo(torch.float32).max * 2
    scales: Float32 = (MARGIN * largest / LARGEST).clamp(min=least).numpy()
    return scales
