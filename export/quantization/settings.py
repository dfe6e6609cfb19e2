"""What a quantization may be told."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class QuantizationSettings:
    """How a model is rounded.

    Attributes:
        int8_share: Of precision int4: the share of the blocks' weights that get eight bits, those that matter most.
        rows: Texts that the model writes to calibrate on.
        length: Tokens of each text.
        measured_rows: Texts of them that the estimate of what matters runs through, forwards and backwards.
        held_out_rows: Texts besides, which tell what the rounding costs.
    """

    int8_share: float = 0.05
    rows: int = 64
    length: int = 256
    measured_rows: int = 12
    held_out_rows: int = 8
