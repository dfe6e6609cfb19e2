"""Weights that are converted when they are written, one at a time, so that an export holds a model once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from ..errors import ExportError

TORCH_DTYPES = {
    ir.DataType.FLOAT: torch.float32,
    ir.DataType.FLOAT16: torch.float16,
    ir.DataType.BFLOAT16: torch.bfloat16,
}


def lazy_weight(
    name: str, make: Callable[[], torch.Tensor], shape: tuple[int, ...], dtype: ir.DataType
) -> ir.LazyTensor:
    """A tensor whose numbers are made and converted at each access, and not kept.

    Args:
        name: The tensor's name.
        make: Returns the numbers, in any float dtype and memory layout.
        shape: Their shape.
        dtype: The tensor's type: FLOAT, FLOAT16 or BFLOAT16.
    """

    def load() -> ir.TensorProtocol:
        wide = make().detach()
        numbers = wide.to(TORCH_DTYPES[dtype])
        if dtype != ir.DataType.FLOAT:
            _check_range(name, wide, numbers)
        # NumPy transposes on one thread: on a busy machine PyTorch's several wait for one another far longer.
        return ir.Tensor(np.asarray(_array(numbers), order="C"), dtype, name=name)

    return ir.LazyTensor(load, dtype, ir.Shape(shape), name=name)


def _array(numbers: torch.Tensor) -> np.ndarray[Any, Any]:
    """The numbers as a NumPy array; bfloat16, which NumPy lacks, as its bits."""
    return (numbers.view(torch.uint16) if numbers.dtype == torch.bfloat16 else numbers).numpy()


def _check_range(name: str, wide: torch.Tensor, numbers: torch.Tensor) -> None:
    """Check that no number left its dtype's range.

    Raises:
        ExportError: A number is out of range.
    """
    if numbers.isfinite().all():
        return
    dtype = str(numbers.dtype).removeprefix("torch.")
    raise ExportError(f"{name} has numbers up to {wide.abs().max():.4g}, which {dtype} cannot hold; export it in fp32")
