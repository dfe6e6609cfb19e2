"""What an artifact's weights take."""

from __future__ import annotations

from math import prod
from pathlib import Path

TABLES = "rotary_emb."
"""What the names of values begin with that are computed, not trained."""


def bits_per_weight(graph: Path, parameters: int) -> float:
    """Stored bits of all weights over the model's parameters: integers, scales and zero points, and what stays float.

    Args:
        graph: The `.onnx` file.
        parameters: Of the model, a tied head counted once.
    """
    import onnx

    initializers = onnx.load(str(graph), load_external_data=False).graph.initializer
    kept = [tensor for tensor in initializers if not tensor.name.startswith(TABLES)]
    bits: int = sum(prod(tensor.dims) * _bits(tensor.data_type) for tensor in kept)
    return bits / parameters


def _bits(dtype: int) -> int:
    """Of one element; the smallest types are packed."""
    import onnx

    if dtype in (onnx.TensorProto.INT4, onnx.TensorProto.UINT4):
        return 4
    return 8 * int(onnx.helper.tensor_dtype_to_np_dtype(dtype).itemsize)
