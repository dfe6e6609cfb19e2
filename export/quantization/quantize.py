"""From a model to weights as integers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from minimind_edge.minimind import MiniMindForCausalLM

from ..errors import ExportError
from .assignment import INT4, INT8, Unit, mixed_formats, rounding_units
from .blocks import eight_bit_formats
from .calibration import written_text
from .equalization import equalize
from .formats import Format
from .groups import Group
from .layerwise import round_blocks
from .matrix import QuantizedMatrix
from .rounding import nearest
from .settings import QuantizationSettings

Progress = Callable[[str, float], None]

TABLES = ("model.embed_tokens.weight", "lm_head.weight")
"""Get eight bits in either precision: they are read by every token, and an error of the head is the logits' own."""

HEAD = "lm_head.weight"

# Shares of the time that the stages of int4 take.
WRITTEN, ESTIMATED = 0.4, 0.5


@dataclass(frozen=True)
class QuantizedModel:
    """A model whose weights are integers.

    Attributes:
        model: In float32, its weights what the integers stand for: what a graph of them has to compute.
        matrices: The integers, by the names of the parameters; a parameter that is missing stays float.
        held_out: Text that the float model wrote and the rounding did not see, [N, S] int64.
        calibration: What the rounding was made for, as JSON.
    """

    model: MiniMindForCausalLM
    matrices: dict[str, QuantizedMatrix] = field(repr=False)
    held_out: torch.Tensor = field(repr=False)
    calibration: dict[str, Any]

    @property
    def bits_per_weight(self) -> float:
        """Bits on disk over parameters: scales and zero points count, and so do the weights that stay float32."""
        parameters = dict(self.model.named_parameters())
        stored: float = sum(matrix.nbytes for matrix in self.matrices.values())
        stored += sum(4 * weight.numel() for name, weight in parameters.items() if name not in self.matrices)
        count: int = sum(weight.numel() for weight in parameters.values())
        return 8 * stored / count


def quantize_model(
    model: MiniMindForCausalLM,
    precision: str,
    prompts: Sequence[Sequence[int]],
    settings: QuantizationSettings | None = None,
    progress: Progress | None = None,
    *,
    text: torch.Tensor | None = None,
) -> QuantizedModel:
    """Round a model's weights; the model itself stays as it is.

    Inputs of layers are evened out first, see `equalize`. `int8` rounds to the nearest, in smaller blocks where those
    are needed. `int4` rounds the layers of the blocks for text that the model writes itself, so that each makes up for
    the errors of those before it, and keeps those at eight bits that matter most. Norms and routers stay float, and
    what is no multiple of 16 wide.

    Args:
        model: In float32 on the CPU, in eval mode.
        precision: `int8` or `int4`.
        prompts: Token ids that the model writes text behind, at least one.
        settings: See `QuantizationSettings`.
        progress: Called with a stage's name and the share that is done.
        text: What `calibration_text` gave for this model, to round it several ways; None has it written.

    Raises:
        ExportError: A weight is not a finite number, or float16 cannot hold its scale.
    """
    check_weights(model)
    tell, settings = progress or (lambda stage, done: None), settings or QuantizationSettings()

    def rounding(stage: str, done: float) -> None:
        tell(stage, ESTIMATED + (1 - ESTIMATED) * done)

    if text is None:
        text = calibration_text(model, precision, prompts, settings, lambda stage, done: tell(stage, WRITTEN * done))
    held_out, tokens = text.tensor_split([settings.held_out_rows])
    rounded, measured = copy.deepcopy(model), tokens[: settings.measured_rows]
    tell("measuring what matters", WRITTEN)
    losses = equalize(rounded, INT4 if precision == "int4" else INT8, measured)
    units = rounding_units(rounded)
    if precision == "int8":
        formats, head = eight_bit_formats(rounded, units, losses, measured)
        calibration: dict[str, Any] = {"texts": len(measured), "tokens": measured.numel()}
        return QuantizedModel(rounded, _round_to_nearest(rounded, formats, head), held_out, calibration)
    formats = mixed_formats(units, _summed(units, losses, rounded), settings.int8_share)
    with torch.no_grad():
        embedded = rounded.model.embed_tokens(tokens)
    matrices = _round_tables(rounded, INT8)
    matrices |= round_blocks(rounded, formats, tokens, embedded, rounding)
    calibration = {"texts": len(tokens), "tokens": tokens.numel(), "int8_share": settings.int8_share}
    return QuantizedModel(rounded, matrices, held_out, calibration)


def calibration_text(
    model: MiniMindForCausalLM,
    precision: str,
    prompts: Sequence[Sequence[int]],
    settings: QuantizationSettings,
    progress: Progress,
) -> torch.Tensor:
    """The text that rounding to a precision takes, [N, S] int64, the held-out rows first; see `quantize_model`."""
    length = min(settings.length, model.config.max_position_embeddings)
    rows = settings.held_out_rows + (settings.rows if precision == "int4" else settings.measured_rows)
    return written_text(model, prompts, rows, length, progress)


def check_weights(model: MiniMindForCausalLM) -> None:
    """See that every weight can be rounded.

    Raises:
        ExportError: One cannot; the message names its parameter.
    """
    largest_scale = torch.finfo(torch.float16).max
    for name, weight in model.named_parameters():
        if not weight.isfinite().all():
            raise ExportError(f"{name} has a weight that is not a finite number, which no integer stands for")
        if weight.abs().max() > largest_scale:
            raise ExportError(
                f"{name} has weights up to {weight.abs().max():.4g}, too large to round; export it in fp32"
            )


def _summed(units: Sequence[Unit], losses: Mapping[nn.Linear, float], model: MiniMindForCausalLM) -> dict[Unit, float]:
    return {unit: sum(losses[layer] for layer in unit.layers(model)) for unit in units}


def _round_to_nearest(
    model: MiniMindForCausalLM, formats: Mapping[Group, Format], head: Format
) -> dict[str, QuantizedMatrix]:
    """Round everything; the model's weights become what the integers stand for."""
    matrices = _round_tables(model, head)
    for group, wanted in formats.items():
        for name in group.parameters():
            _round_nearest(model, name, wanted, matrices)
    return matrices


def _round_tables(model: MiniMindForCausalLM, head: Format) -> dict[str, QuantizedMatrix]:
    """Round embedding and head, once where they are one, and then as the head is to be."""
    matrices: dict[str, QuantizedMatrix] = {}
    names = dict(model.named_parameters())
    for name in TABLES:
        if name in names and INT8.block_of(names[name].shape[1]) is not None:
            is_head = name == HEAD or HEAD not in names
            _round_nearest(model, name, head if is_head else INT8, matrices)
    return matrices


@torch.no_grad()
def _round_nearest(model: MiniMindForCausalLM, name: str, wanted: Format, matrices: dict[str, QuantizedMatrix]) -> None:
    weight = model.get_parameter(name)
    matrices[name] = nearest(weight, wanted)
    weight.copy_(torch.from_numpy(matrices[name].dequantized()))
