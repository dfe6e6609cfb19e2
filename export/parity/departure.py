"""Where a graph first leaves eager's path, and what to look at there."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .measurement import LayerErrors, Measurement, TensorError
from .tolerance import Tolerance

Part = Literal["key", "value", "cache", "experts", "head"]


@dataclass(frozen=True)
class Departure:
    """The first thing that is out of tolerance.

    Args:
        layer: Index of the layer; None for the head, where all that came before is right.
        part: What departs there; `cache` is key and value.
    """

    layer: int | None
    part: Part

    @property
    def place(self) -> int | str:
        """The layer's index, or `head`."""
        return "head" if self.layer is None else self.layer

    @property
    def hint(self) -> str:
        """What to look at, in a few words."""
        layer = self.layer or 0
        before = f"layer {layer - 1}'s q_proj, o_proj, mask and mlp, then" if layer else "embed_tokens,"
        return {
            "key": f"first departs in layer {layer}, keys only: look at its position_ids, RoPE, k_proj and k_norm",
            "value": f"first departs in layer {layer}, values only: look at its v_proj",
            "cache": f"first departs in layer {layer}: look at {before} layer {layer}'s input_layernorm",
            "experts": f"first departs in layer {layer}, in the experts chosen: look at its attention and its router",
            "head": "first departs behind the last cache: look at the last layer's q_proj, o_proj, mask and mlp, "
            "the final norm and lm_head",
        }[self.part]


def first_departure(measurements: Sequence[Measurement], tolerance: Tolerance) -> Departure | None:
    """The earliest departure in one runner's measurements; None where nothing departs, or the cache is not shown."""
    shown = [one for one in measurements if one.layers]
    if not shown:
        return None
    for layer in range(len(shown[0].layers)):
        part = _departing_part([one.layers[layer] for one in shown], tolerance)
        if part is not None:
            return Departure(layer, part)
        if any(one.same_experts and not one.same_experts[layer].all() for one in shown) and tolerance.experts == 1.0:
            return Departure(layer, "experts")
    return None if within([one.logits for one in shown], tolerance, "logits") else Departure(None, "head")


def earliest(departures: Iterable[Departure | None]) -> Departure | None:
    """The one that comes first in the model."""
    found = [departure for departure in departures if departure is not None]
    return min(found, key=lambda departure: math.inf if departure.layer is None else departure.layer, default=None)


def within(errors: Sequence[TensorError], tolerance: Tolerance, kind: Literal["logits", "presents"]) -> bool:
    """Whether enough tokens are within the bound."""
    bound = getattr(tolerance, f"{kind}_rel")
    inside = [error.relative <= bound for error in errors]
    return bool(np.count_nonzero(np.concatenate(inside)) >= tolerance.within * sum(map(len, inside)))


def _departing_part(layers: Sequence[LayerErrors], tolerance: Tolerance) -> Part | None:
    key = within([layer.key for layer in layers], tolerance, "presents")
    value = within([layer.value for layer in layers], tolerance, "presents")
    if key and value:
        return None
    if key:
        return "value"
    return "key" if value else "cache"
