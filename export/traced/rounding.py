"""Rounding the weights of a changed model's linear layers and embeddings to integers."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import nn

from ..progress import Progress
from ..quantization.calibration import written_text
from ..quantization.formats import TARGET_FORMATS, Format, QuantizationSettings, QuantizedMatrix
from ..quantization.gptq import gptq_matrix, hessian_of
from ..quantization.quantize import QuantizedModel, check_weights
from ..quantization.rounding import nearest
from .owner import OwnersModel
from .reference import OwnersReference
from .storage import LEAST_OUTPUTS


def round_model(
    own: OwnersModel,
    precision: str,
    target: str,
    prompts: Sequence[Sequence[int]],
    *,
    settings: QuantizationSettings,
    progress: Progress,
) -> tuple[OwnersModel, QuantizedModel]:
    """Round linear layers and embeddings; the model itself stays as it is.

    Int8 rounds to the nearest. Int4 rounds each linear layer by GPTQ, for its inputs on text that the model writes
    itself; embeddings and the head get eight bits. Routers, and weights whose width is no multiple of 16, stay float.

    Args:
        own: The model.
        precision: `int8` or `int4`.
        target: `portable` or `tensorrt`.
        prompts: Token ids of the prompts that the calibration text begins with.
        settings: The number and length of the calibration texts.
        progress: Called with a stage's name and the share that is done.

    Returns:
        The model with the dequantized weights, and the integers by its parameters' names.

    Raises:
        ExportError: A weight cannot be rounded.
    """
    reference = OwnersReference(own)
    check_weights(reference)  # type: ignore[arg-type]
    length = min(settings.length, own.facts.max_position_embeddings)
    rows = settings.held_out_rows + (settings.measured_rows if precision == "int4" else 0)
    text = written_text(reference, prompts, rows, length, progress)  # type: ignore[arg-type]
    held_out, tokens = text.tensor_split([settings.held_out_rows])
    rounded = copy.deepcopy(own.model)
    changed = OwnersModel(rounded, own.facts, own.takes_positions, own.heads_first)
    hessians = _hessians(changed, tokens) if precision == "int4" else {}
    matrices: dict[str, QuantizedMatrix] = {}
    for name, parameter in rounded.named_parameters():
        wanted = _format(rounded, name, precision, target)
        if wanted is None or wanted.block_of(parameter.shape[1]) is None:
            continue
        hessian = hessians.get(name) if wanted.bits == 4 else None
        with torch.no_grad():
            matrix = nearest(parameter, wanted) if hessian is None else gptq_matrix(parameter, wanted, hessian)
            parameter.copy_(torch.from_numpy(matrix.dequantized()))
        matrices[name] = matrix
    calibration = {"texts": len(tokens), "tokens": tokens.numel()}
    return changed, QuantizedModel(OwnersReference(changed), matrices, held_out, calibration)  # type: ignore[arg-type]


def _format(model: nn.Module, name: str, precision: str, target: str) -> Format | None:
    """The format of a parameter; None for float."""
    path, _, kind = name.rpartition(".")
    module, formats = model.get_submodule(path), TARGET_FORMATS[target]
    if kind != "weight" or not isinstance(module, (nn.Linear, nn.Embedding)):
        return None
    tables = [one for one in model.modules() if isinstance(one, nn.Embedding)]
    # The head has as many rows as an embedding, and is stored like one: in eight bits or as floats.
    if isinstance(module, nn.Embedding) or any(len(module.weight) == one.num_embeddings for one in tables):
        return formats.int8 if formats.int8_tables else None
    return None if len(module.weight) < LEAST_OUTPUTS else formats.of(precision)


@torch.no_grad()
def _hessians(own: OwnersModel, tokens: torch.Tensor) -> dict[str, torch.Tensor]:
    """The Hessian of each linear layer's inputs on text, by the names of the layers' weights."""
    found: dict[str, torch.Tensor] = {}
    handles = []
    for name, module in own.model.named_modules():
        if isinstance(module, nn.Linear):

            def record(_module: nn.Module, inputs: tuple[torch.Tensor, ...], key: str = f"{name}.weight") -> None:
                seen = hessian_of(inputs[0].reshape(-1, inputs[0].shape[-1])) if inputs[0].numel() else 0
                found[key] = found.get(key, torch.zeros(())) + seen

            handles.append(module.register_forward_pre_hook(record))
    try:
        for row in tokens:
            OwnersReference(own)(row[None])
    finally:
        for handle in handles:
            handle.remove()
    return {name: hessian for name, hessian in found.items() if hessian.dim() == 2}
