"""Weights as integers: rounding that makes up for its own errors, and the choice of who gets how many bits."""

from __future__ import annotations

from .matrix import QuantizedMatrix
from .settings import QuantizationSettings

__all__ = ["QuantizationSettings", "QuantizedMatrix"]
