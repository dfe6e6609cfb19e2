"""The `ort` dialect with an int8 KV cache: keys and values are rounded when they are written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from .dialect import FLOAT
from .ort import OrtDialect, OrtInputs
from .writer import GraphWriter

if TYPE_CHECKING:
    from minimind_edge.minimind import MiniMindForCausalLM

    from ..quantization.kv_cache_scales import CacheScales

PER_CHANNEL = "PER_CHANNEL"
BITS = 8


class Int8CacheDialect(OrtDialect):
    """`OrtDialect`, with a scale for each channel of each layer's keys and values, [H_kv, D] float32.

    GroupQueryAttention writes `clip(round_half_even(x / scale), -128, 127)` into the present, and computes with the
    dequantized integers, those of the new tokens too; queries, scores and sums stay float32.

    Args:
        writer: See `Dialect`.
        model: See `Dialect`.
        step: See `Dialect`; its cache is int8.
        max_length: See `Dialect`.
        scales: The scales of each layer.
    """

    def __init__(
        self,
        writer: GraphWriter,
        model: MiniMindForCausalLM,
        step: OrtInputs,
        max_length: int,
        *,
        scales: Sequence[CacheScales],
    ) -> None:
        super().__init__(writer, model, step, max_length)
        self._scales = scales

    def cache_format(self, layer: int) -> tuple[tuple[ir.Value, ir.Value], dict[str, Any]]:
        """See `OrtDialect.cache_format`."""
        scales = self._scales[layer]
        parts = (self._stored(layer, "k_scale", scales.key), self._stored(layer, "v_scale", scales.value))
        return parts, {"k_quant_type": PER_CHANNEL, "v_quant_type": PER_CHANNEL, "kv_cache_bit_width": BITS}

    def _stored(self, layer: int, name: str, scales: np.ndarray[Any, Any]) -> ir.Value:
        return self.writer.stored_array(scale_name(layer, name), lambda: scales, scales.shape, FLOAT)


def scale_name(layer: int, name: str) -> str:
    """The name of the initializer that holds a layer's `k_scale` or `v_scale`."""
    return f"layers.{layer}.self_attn.{name}"
