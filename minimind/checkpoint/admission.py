"""The check of every tensor of a checkpoint or an adapter before anything is computed with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from ..errors import CheckpointError

READABLE = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64})


def require_admissible(tensors: Mapping[str, torch.Tensor], file: Path) -> None:
    """Check that every tensor is dense, on the CPU, of a plain float dtype, finite, and stored in its file.

    A file's tensors together must not be larger than the file: a tensor that repeats its memory, for example by a
    stride of 0, would make gigabytes out of kilobytes.

    Args:
        tensors: Tensors of the file by their names in it.
        file: Weight file.

    Raises:
        CheckpointError: A tensor fails the check.
    """
    size, seen, total = file.stat().st_size, set(), 0
    for name, tensor in tensors.items():
        _require_plain(tensor, f"{file}: tensor {name}")
        place = (tensor.untyped_storage().data_ptr(), tensor.storage_offset(), tensor.shape, tensor.stride())
        if place not in seen:
            seen.add(place)
            total += tensor.numel() * tensor.element_size()
        if total > size:
            raise CheckpointError(
                f"{file}: tensors up to {name} take {total} bytes, more than the file's {size}; "
                "expected every tensor's values in the file: save model.state_dict() again"
            )
    for name, tensor in tensors.items():
        require_finite(tensor, f"{file}: tensor {name}")


def _require_plain(tensor: torch.Tensor, label: str) -> None:
    if tensor.is_nested or tensor.layout != torch.strided:
        layout = "nested" if tensor.is_nested else str(tensor.layout).removeprefix("torch.")
        raise CheckpointError(f"{label} is {layout}; expected a dense one: save it after .to_dense()")
    if tensor.device.type != "cpu":
        raise CheckpointError(
            f"{label} is on device {tensor.device.type!r}, without values; save model.state_dict() again"
        )
    if tensor.dtype not in READABLE:
        dtype = str(tensor.dtype).removeprefix("torch.")
        raise CheckpointError(
            f"{label} is {dtype}; expected float16, bfloat16 or float32: quantized weights are not supported"
        )
    if any(step == 0 and count > 1 for step, count in zip(tensor.stride(), tensor.shape, strict=True)):
        raise CheckpointError(
            f"{label} repeats its values by a stride of 0; expected a dense one: save it after .clone()"
        )


def require_finite(tensor: torch.Tensor, label: str) -> None:
    """Check that a dense float tensor has no NaN and no infinity.

    Raises:
        CheckpointError: The tensor has one.
    """
    if tensor.numel() == 0:
        return
    least, greatest = torch.aminmax(tensor)  # passes NaN on, and is fifty times as fast as isfinite
    if not (least.isfinite() and greatest.isfinite()):
        count = int((~tensor.isfinite()).sum())
        raise CheckpointError(f"{label} has {count} values that are NaN or infinite; the training diverged")
