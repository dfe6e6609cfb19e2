"""LoRA adapters: reading them, and merging them into the weights of their base checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from ..errors import AdapterError
from .digest import file_digest
from .names import clean_names
from .peft_adapter import MARK as PEFT_MARK
from .peft_adapter import peft_weights, split_peft_pairs
from .tensor_file import read_tensors

MARK = ".lora."
DOWN, UP = ".lora.A.weight", ".lora.B.weight"


@dataclass(frozen=True)
class MergedAdapter:
    """An adapter that was merged, for the report.

    Attributes:
        file: File or PEFT folder that the user named; for an adapter inside the checkpoint, the checkpoint.
        sha256: SHA-256 of the weight file, in hexadecimal.
        rank: Largest rank r of the pairs.
        modules: Names of the changed modules in the checkpoint.
    """

    file: Path
    sha256: str
    rank: int
    modules: tuple[str, ...]


@dataclass(frozen=True)
class LowRankPair:
    """The LoRA update of one module: `scale * up @ down` is added to its weight.

    Attributes:
        down: Matrix A, `lora.A.weight`, [r, in_features].
        up: Matrix B, `lora.B.weight`, [out_features, r].
        scale: Factor of the product: 1 for upstream's adapters, alpha / r for PEFT's.

    Source:
        Hu et al. 2021, "LoRA", equation 3.
    """

    down: torch.Tensor
    up: torch.Tensor
    scale: float = 1.0


def split_adapter(
    tensors: Mapping[str, torch.Tensor], file: Path
) -> tuple[dict[str, torch.Tensor], dict[str, LowRankPair]]:
    """Split tensors with clean names into weights by name and LoRA pairs by module.

    Raises:
        AdapterError: A pair is incomplete, or its shapes don't match.
    """
    weights = {name: tensor for name, tensor in tensors.items() if MARK not in name}
    pairs: dict[str, LowRankPair] = {}
    for name in tensors:
        if MARK not in name:
            continue
        module = name.partition(MARK)[0]
        if name not in (module + DOWN, module + UP):
            raise AdapterError(f"{file}: tensor {name} is unknown; expected {module}{DOWN} and {module}{UP}")
        if module not in pairs:
            pairs[module] = _pair(tensors, module, file)
    return weights, pairs


def read_adapter(path: Path) -> tuple[dict[str, LowRankPair], Path]:
    """The pairs of an adapter by module name, and the adapter's weight file.

    Args:
        path: A `lora_*.pth` of upstream, a PEFT folder, or the weight file in one.

    Raises:
        AdapterError: The file does not hold a LoRA adapter.
        CheckpointError: The file cannot be read.
    """
    peft = peft_weights(path)
    if peft is not None:
        return _peft_pairs(peft), peft
    if not path.is_file():
        raise AdapterError(f"{path}: no such LoRA file")
    tensors = clean_names(read_tensors(path))
    if any(PEFT_MARK.search(name) for name in tensors):
        raise AdapterError(
            f"{path}: a PEFT adapter without its adapter_config.json, which has the scale; pass its folder"
        )
    weights, pairs = split_adapter(tensors, path)
    if weights or not pairs:
        found = f"tensor {next(iter(weights))} is no LoRA tensor" if weights else "no LoRA tensors"
        raise AdapterError(f"{path}: {found}; expected *{DOWN} and *{UP} only")
    return pairs, path


def _peft_pairs(file: Path) -> dict[str, LowRankPair]:
    """The pairs of a PEFT adapter's weight file, by module name."""
    pairs = {}
    for module, (down, up, scale) in split_peft_pairs(clean_names(read_tensors(file)), file).items():
        found = {name: tensor for name, tensor in ((module + DOWN, down), (module + UP, up)) if tensor is not None}
        pair = _pair(found, module, file)
        pairs[module] = LowRankPair(pair.down, pair.up, scale)
    if not pairs:
        raise AdapterError(f"{file}: no LoRA tensors")
    return pairs


def merge_adapter(
    weights: dict[str, torch.Tensor], pairs: Mapping[str, LowRankPair], file: Path, named: Path | None = None
) -> MergedAdapter:
    """Replace each module's weight by its sum with the pair's product, in float32.

    Args:
        weights: Tensors of the base by their names in its file; changed.
        pairs: LoRA pairs by module name.
        file: Weight file of the adapter.
        named: Folder of the weight file, where the user named that.

    Raises:
        AdapterError: A module is not in the base, or a shape does not fit.
    """
    for module, pair in pairs.items():
        name = f"{module}.weight"
        weight = weights.get(name)
        if weight is None:
            raise AdapterError(
                f"{file}: {module}{DOWN} has no counterpart: the checkpoint has no tensor {name}; "
                "pass the adapter's own base checkpoint"
            )
        shape = [pair.up.shape[0], pair.down.shape[1]]
        if list(weight.shape) != shape or not weight.is_floating_point():
            raise AdapterError(
                f"{file}: {module}{DOWN} and {UP[1:]} make {shape}, but {name} is {described(weight)}; "
                "pass the adapter's own base checkpoint"
            )
        weights[name] = torch.addmm(weight.float(), pair.up.float(), pair.down.float(), alpha=pair.scale)
    rank = max(pair.down.shape[0] for pair in pairs.values())
    return MergedAdapter(named or file, file_digest(file), rank, tuple(pairs))


def _pair(tensors: Mapping[str, torch.Tensor], module: str, file: Path) -> LowRankPair:
    for name in (module + DOWN, module + UP):
        tensor = tensors.get(name)
        if tensor is None:
            raise AdapterError(f"{file}: missing tensor {name}")
        if tensor.dim() != 2 or not tensor.is_floating_point():
            raise AdapterError(f"{file}: tensor {name} is {described(tensor)}; expected a floating-point matrix")
    down, up = tensors[module + DOWN], tensors[module + UP]
    if down.shape[0] != up.shape[1]:
        raise AdapterError(
            f"{file}: {module}{DOWN} has rank {down.shape[0]}, {module}{UP} rank {up.shape[1]}; expected the same"
        )
    return LowRankPair(down, up)


def described(tensor: torch.Tensor) -> str:
    """The dtype and shape of a tensor for messages: `float16 [64, 64]`."""
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
