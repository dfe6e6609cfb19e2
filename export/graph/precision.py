"""How a graph's numbers are stored: which precisions each target has, and what they are called on disk."""

from __future__ import annotations

import onnx_ir as ir

from minimind_edge.runtime.errors import UsageError

from ..errors import ExportError

DTYPES = {
    "fp32": ir.DataType.FLOAT,
    "fp16": ir.DataType.FLOAT16,
    "bf16": ir.DataType.BFLOAT16,
    "int8": ir.DataType.FLOAT16,
    "int4": ir.DataType.FLOAT16,
}
"""In what a precision computes and caches: weights of integers become float16 as they are used."""

FLOATS = ("fp32", "fp16")

PRECISIONS = {"portable": FLOATS, "ort": FLOATS, "tensorrt": tuple(DTYPES)}
"""Which precisions a target's graphs come in."""


def check_precision(target: str, precision: str) -> None:
    """See that a target comes in a precision.

    Raises:
        ExportError: One of the two there is not.
        UsageError: They do not go together.
    """
    if target not in PRECISIONS:
        raise ExportError(f"target {target!r} cannot be exported; choose {' or '.join(PRECISIONS)}")
    if precision not in DTYPES:
        raise ExportError(f"precision {precision!r} cannot be exported; choose {' or '.join(DTYPES)}")
    if precision not in PRECISIONS[target]:
        others = " or ".join(name for name, known in PRECISIONS.items() if precision in known)
        raise UsageError(
            f"target {target} comes in {' and '.join(PRECISIONS[target])}, not in {precision}; "
            f"choose --target {others} for that"
        )
