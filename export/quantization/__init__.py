"""Weights as integers: SmoothQuant, GPTQ, and the choice of each layer's format."""

from __future__ import annotations

from .formats import QuantizationSettings, QuantizedMatrix

__all__ = ["QuantizationSettings", "QuantizedMatrix"]
