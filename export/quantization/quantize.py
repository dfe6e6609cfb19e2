"""Quantization of a model: from float weights to integers."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from minimind_edge.minimind import MiniMindForCausalLM

from ..errors import ExportError
from ..progress import Progress, parts, silent, stage_share
from .calibration import written_text
from .formats import INT8, TARGET_FORMATS, Format, QuantizationSettings, QuantizedMatrix, TargetFormats
from .gptq import difference_of, gptaq_target, gptq_matrix, gptq_quantize, hessian_of
from .layer_groups import EMBEDDING, HEAD, Group
from .mixed_precision import Unit, int8_formats, mixed_formats, rounding_units
from .rounding import nearest
from .smoothquant import smooth

SECONDS = {
    "int8": {"text": 1.6, "sensitivity": 6.0, "rounding": 2.0},
    "int4": {"text": 3.3, "sensitivity": 6.0, "rounding": 8.5},
}
"""The seconds that the stages of each precision take, for a model of 26M parameters on two cores.

Those of int4 were measured. Those of int8 are estimated from them, as it has fewer texts.
"""


@dataclass(frozen=True)
class QuantizedModel:
    """A model whose weights are integers.

    Attributes:
        model: The model in float32 with the dequantized weights, which is what the graph has to compute.
        matrices: The integers, by the names of the parameters; a parameter that is missing stays float.
        held_out: Text that the float model wrote and the rounding did not see, [N, S] int64.
        calibration: The calibration text and settings, as JSON.
        notes: Lines for the user about weights that could not be stored in the requested precision.
    """

    model: MiniMindForCausalLM
    matrices: dict[str, QuantizedMatrix] = field(repr=False)
    held_out: torch.Tensor = field(repr=False)
    calibration: dict[str, Any]
    notes: tuple[str, ...] = ()


def quantize_model(
    model: MiniMindForCausalLM,
    precision: str,
    prompts: Sequence[Sequence[int]],
    settings: QuantizationSettings | None = None,
    progress: Progress | None = None,
    *,
    target: str = "ort",
    text: torch.Tensor | None = None,
) -> QuantizedModel:
    """Round a model's weights; the model itself stays as it is.

    SmoothQuant comes first. `int8` rounds to nearest, in smaller blocks where those are needed. `int4` rounds the
    layers of the blocks by GPTQ on text that the model writes itself, and keeps the most sensitive ones at eight bits.
    Norms and routers stay float. A head of four bits is rounded by GPTQ too, and no longer tied to the embedding.

    Args:
        model: In float32 on the CPU, in eval mode.
        precision: `int8` or `int4`.
        prompts: Token ids of the prompts that the calibration text begins with, at least one.
        settings: See `QuantizationSettings`.
        progress: Called with a stage's name and the share that is done.
        target: The target whose graphs store the integers, see `TARGET_FORMATS`.
        text: The result of `calibration_text` for this model, to round it several ways; None has it written.

    Raises:
        ExportError: A weight is not a finite number, or float16 cannot hold its scale.
    """
    check_weights(model)
    settings = settings or QuantizationSettings()
    stages = parts(progress or silent, SECONDS[precision])
    formats = TARGET_FORMATS[target].with_int8_block(settings.int8_block)
    if text is None:
        text = calibration_text(model, precision, prompts, settings, stages["text"])
    held_out, tokens = text.tensor_split([settings.held_out_rows])
    rounded, measured = copy.deepcopy(model), tokens[: settings.measured_rows]
    sensitivity = stage_share(stages["sensitivity"], "estimating the sensitivity of layers", 0.0, 1.0)
    losses = smooth(rounded, formats.of(precision), measured, sensitivity)
    units = rounding_units(rounded, formats.of(precision))
    if precision == "int8":
        stages["rounding"]("rounding", 0.0)
        of_groups, head = int8_formats(rounded, units, losses, measured, formats)
        calibration: dict[str, Any] = {"texts": len(measured), "tokens": measured.numel()}
        if settings.int8_block != INT8.block:
            calibration["int8_block"] = settings.int8_block
        matrices = _round_tables(rounded, head) if formats.int8_tables else {}
        return QuantizedModel(rounded, matrices | _round_groups(rounded, of_groups), held_out, calibration)
    of_groups = _int4_formats(rounded, units, losses, settings.int8_share, formats)
    exact = _hidden_states(rounded, tokens) if settings.int4_head else None
    matrices = _round_int4(rounded, of_groups, tokens, formats, stages["rounding"], with_head=exact is None)
    if exact is not None:
        matrices[HEAD] = _round_head(rounded, tokens, exact, formats.int4)
    calibration = {"texts": len(tokens), "tokens": tokens.numel(), "int8_share": settings.int8_share}
    if settings.int4_head:
        calibration["head_bits"] = 4
    return QuantizedModel(rounded, matrices, held_out, calibration, tuple(_int8_notes(rounded, units, formats)))


def calibration_text(
    model: MiniMindForCausalLM,
    precision: str,
    prompts: Sequence[Sequence[int]],
    settings: QuantizationSettings,
    progress: Progress,
) -> torch.Tensor:
    """The text that rounding to a precision uses, [N, S] int64, the held-out rows first; see `quantize_model`."""
    length = min(settings.length, model.config.max_position_embeddings)
    rows = settings.held_out_rows + (settings.rows if precision == "int4" else settings.measured_rows)
    return written_text(model, prompts, rows, length, progress)


def check_weights(model: MiniMindForCausalLM) -> None:
    """Check that every weight can be rounded.

    Raises:
        ExportError: A weight cannot be rounded; the message names its parameter.
    """
    largest_scale = torch.finfo(torch.float16).max
    for name, weight in model.named_parameters():
        if not weight.isfinite().all():
            raise ExportError(f"{name} has a weight that is not a finite number, which no integer stands for")
        if weight.abs().max() > largest_scale:
            raise ExportError(
                f"{name} has weights up to {weight.abs().max():.4g}, too large to round; export it in fp32"
            )


def _int4_formats(
    model: MiniMindForCausalLM,
    units: list[Unit],
    losses: Mapping[nn.Linear, float],
    int8_share: float,
    formats: TargetFormats,
) -> dict[Group, Format]:
    """The format of each group in precision int4."""
    of_units = {unit: sum(losses[layer] for layer in unit.layers(model)) for unit in units if unit.fits(formats.int4)}
    return mixed_formats(units, of_units, int8_share, formats)


def _round_int4(
    model: MiniMindForCausalLM,
    of_groups: Mapping[Group, Format],
    tokens: torch.Tensor,
    formats: TargetFormats,
    progress: Progress,
    *,
    with_head: bool,
) -> dict[str, QuantizedMatrix]:
    """Round the tables to nearest and the blocks by GPTQ; the model's weights become the dequantized integers.

    Without the head, it is left as it was, in a parameter of its own.
    """
    with torch.no_grad():
        embedded = model.model.embed_tokens(tokens)
    if not with_head:
        model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach().clone())
        matrices = {EMBEDDING: _round_nearest(model, EMBEDDING, formats.int8)}
    else:
        matrices = _round_tables(model, formats.int8) if formats.int8_tables else {}
    return matrices | gptq_quantize(model, of_groups, tokens, embedded, progress)


@torch.no_grad()
def _hidden_states(model: MiniMindForCausalLM, tokens: torch.Tensor) -> torch.Tensor:
    """The head's inputs for a text [N, S], [N * S, H]."""
    states: torch.Tensor = model.model(tokens)[0]
    return states.flatten(0, 1)


@torch.no_grad()
def _round_head(
    model: MiniMindForCausalLM, tokens: torch.Tensor, exact: torch.Tensor, wanted: Format
) -> QuantizedMatrix:
    """Round the head by GPTQ, after the blocks; its weight becomes the dequantized integers.

    Args:
        model: The model, all other weights of which are rounded.
        tokens: [N, S] int64, the calibration text.
        exact: The head's inputs before anything was rounded, [N * S, H].
        wanted: The format.
    """
    weight, inputs = model.lm_head.weight, _hidden_states(model, tokens)
    hessian = hessian_of(inputs)
    matrix = gptq_matrix(gptaq_target(weight, hessian, difference_of(exact, inputs)), wanted, hessian)
    weight.copy_(torch.from_numpy(matrix.dequantized()))
    return matrix


def _int8_notes(model: MiniMindForCausalLM, units: Iterable[Unit], formats: TargetFormats) -> Iterable[str]:
    """One warning for each width that four bits cannot store, with the first of its weights."""
    first: dict[int, str] = {}
    counts: dict[int, int] = {}
    for group in (group for unit in units if not unit.fits(formats.int4) for group in unit.groups):
        for name in group.parameters():
            width = model.get_parameter(name).shape[1]
            if formats.int4.block_of(width) is None:
                first.setdefault(width, name)
                counts[width] = counts.get(width, 0) + 1
    for width, name in first.items():
        others = f" and {counts[width] - 1} more" if counts[width] > 1 else ""
        yield f"warning: {name}{others}: {width} inputs, and int4 takes multiples of 16 on this target; stored in int8"


def _round_groups(model: MiniMindForCausalLM, formats: Mapping[Group, Format]) -> dict[str, QuantizedMatrix]:
    """Round to nearest; the model's weights become the dequantized integers."""
    return {
        name: _round_nearest(model, name, wanted) for group, wanted in formats.items() for name in group.parameters()
    }


def _round_tables(model: MiniMindForCausalLM, head: Format) -> dict[str, QuantizedMatrix]:
    """Round embedding and head; a tied one is rounded once, in the head's format."""
    if HEAD not in dict(model.named_parameters()):
        return {EMBEDDING: _round_nearest(model, EMBEDDING, head)}
    return {EMBEDDING: _round_nearest(model, EMBEDDING, INT8), HEAD: _round_nearest(model, HEAD, head)}


@torch.no_grad()
def _round_nearest(model: MiniMindForCausalLM, name: str, wanted: Format) -> QuantizedMatrix:
    weight = model.get_parameter(name)
    matrix = nearest(weight, wanted)
    weight.copy_(torch.from_numpy(matrix.dequantized()))
    return matrix
