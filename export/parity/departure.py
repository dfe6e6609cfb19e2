"""Where a graph first leaves eager's path, and what to look at there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

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


def first_departure(measurements: Iterable[Measurement], tolerance: Tolerance) -> Departure | None:
    """The earliest departure of all measurements; None where nothing departs."""
    found = [departure for one in measurements for departure in _departures(one, tolerance)]
    return min(found, key=_depth, default=None)


def _depth(departure: Departure) -> tuple[float, bool]:
    """Order in the model: the cache of a layer is made before its experts are chosen, the head comes last."""
    return (float("inf") if departure.layer is None else departure.layer, departure.part == "experts")


def _departures(measurement: Measurement, tolerance: Tolerance) -> Iterator[Departure]:
    """All of one measurement. A runner that doesn't show its cache can't tell where it departs."""
    for layer, errors in enumerate(measurement.layers):
        part = _departing_part(errors, tolerance)
        if part is not None:
            yield Departure(layer, part)
    if not tolerance.routes_may_differ:
        yield from (
            Departure(layer, "experts") for layer, same in enumerate(measurement.same_experts) if not same.all()
        )
    if measurement.layers and not _within(measurement.logits, tolerance.logits_abs, tolerance.logits_rel):
        yield Departure(None, "head")


def _departing_part(errors: LayerErrors, tolerance: Tolerance) -> Part | None:
    key, value = (
        _within(tensor, tolerance.presents_abs, tolerance.presents_rel) for tensor in (errors.key, errors.value)
    )
    if key and value:
        return None
    if key:
        return "value"
    return "key" if value else "cache"


def _within(error: TensorError, absolute: float, relative: float) -> bool:
    return error.max_abs <= absolute and error.max_rel <= relative
