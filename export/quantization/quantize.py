"""From a model to weights as integers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from minimind_edge.minimind import MiniMindForCausalLM

from ..errors import ExportError
from .assignment import INT4, INT8, mixed_formats, rounding_units
from .calibration import written_text
from .formats import Format
from .layerwise import round_blocks
from .matrix import QuantizedMatrix
from .rounding import nearest
from .sensitivity import estimated_losses
from .settings import QuantizationSettings

Progress = Callable[[str, float], None]

TABLES = ("model.embed_tokens.weight", "lm_head.weight")
"""Get eight bits in either precision: they are read by every token, and an error of the head is the logits' own."""

# Shares of the time that the stages of int4 take.
WRITTEN, ESTIMATED = 0.4, 0.5


@dataclass(frozen=True)
class QuantizedModel:
    """A model whose weights are integers.

    Attributes:
        model: In float32, its weights what the integers stand for: what a graph of them has to compute.
        matrices: The integers, by the names of the parameters; a parameter that is missing stays float.
        held_out: Text that the float model wrote and the rounding did not see, [N, S] int64.
        calibration: What the rounding was made for, as JSON; empty where it needed nothing.
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
) -> QuantizedModel:
    """Round a model's weights; the model itself stays as it is.

    `int8` rounds to the nearest. `int4` rounds the layers of the blocks for text that the model writes itself, so that
    each makes up for the errors of those before it, and keeps those at eight bits that matter most. Norms and routers
    stay float, and what is no multiple of 16 wide.

    Args:
        model: In float32 on the CPU, in eval mode.
        precision: `int8` or `int4`.
        prompts: Token ids that the model writes text behind, at least one.
        settings: See `QuantizationSettings`.
        progress: Called with a stage's name and the share that is done.

    Raises:
        ExportError: A weight is not a finite number, or float16 cannot hold its scale.
    """
    check_weights(model)
    tell, settings = progress or (lambda stage, done: None), settings or QuantizationSettings()

    def writing(stage: str, done: float) -> None:
        tell(stage, WRITTEN * done)

    def rounding(stage: str, done: float) -> None:
        tell(stage, ESTIMATED + (1 - ESTIMATED) * done)

    length = min(settings.length, model.config.max_position_embeddings)
    rows = settings.held_out_rows + (settings.rows if precision == "int4" else 0)
    held_out, tokens = written_text(model, prompts, rows, length, writing).tensor_split([settings.held_out_rows])
    rounded = copy.deepcopy(model)
    units, matrices = rounding_units(rounded), _round_tables(rounded)
    if precision == "int8":
        for unit in units:
            for group, chosen in unit.formatted(INT8).items():
                for name in group.parameters():
                    _round_nearest(rounded, name, chosen, matrices)
        return QuantizedModel(rounded, matrices, held_out, {})
    tell("measuring what matters", WRITTEN)
    groups = [group for unit in units for group in unit.groups]
    losses = estimated_losses(model, groups, INT4, tokens[: settings.measured_rows])
    formats = mixed_formats(units, losses, settings.int8_share)
    with torch.no_grad():
        embedded = model.model.embed_tokens(tokens)
    matrices |= round_blocks(rounded, formats, tokens, embedded, rounding)
    calibration = {"texts": len(tokens), "tokens": tokens.numel(), "int8_share": settings.int8_share}
    return QuantizedModel(rounded, matrices, held_out, calibration)


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


def _round_tables(model: MiniMindForCausalLM) -> dict[str, QuantizedMatrix]:
    """Round embedding and head, once where they are one."""
    matrices: dict[str, QuantizedMatrix] = {}
    names = dict(model.named_parameters())
    for name in TABLES:
        if name in names and INT8.block_of(names[name].shape[1]) is not None:
            _round_nearest(model, name, INT8, matrices)
    return matrices


@torch.no_grad()
def _round_nearest(model: MiniMindForCausalLM, name: str, wanted: Format, matrices: dict[str, QuantizedMatrix]) -> None:
    weight = model.get_parameter(name)
    matrices[name] = nearest(weight, wanted)
    weight.copy_(torch.from_numpy(matrices[name].dequantized()))
