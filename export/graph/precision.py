"""Precisions: which ones each target has, and the type that a graph computes in."""

from __future__ import annotations

import onnx_ir as ir

from minimind_edge.runtime.errors import UsageError

from ..errors import ExportError
from ..quantization.formats import INT8_BLOCKS, QuantizationSettings

FLOATS = {"fp32": ir.DataType.FLOAT, "fp16": ir.DataType.FLOAT16, "bf16": ir.DataType.BFLOAT16}
INTEGERS = ("int8", "int4")

ON_CPU = ("fp32", "fp16", *INTEGERS)

PRECISIONS = {"portable": ON_CPU, "ort": ON_CPU, "tensorrt": (*FLOATS, *INTEGERS)}
"""The precisions of each target's graphs."""


def compute_dtype(target: str, precision: str) -> ir.DataType:
    """The type that a graph computes and caches in; with integer weights, float16 on a GPU and float32 on a CPU."""
    if precision in INTEGERS:
        return ir.DataType.FLOAT16 if target == "tensorrt" else ir.DataType.FLOAT
    return FLOATS[precision]


def check_precision(target: str, precision: str) -> None:
    """Check that a target comes in a precision.

    Raises:
        ExportError: There is no such target or precision.
        UsageError: The target does not come in the precision.
    """
    if target not in PRECISIONS:
        raise ExportError(f"target {target!r} cannot be exported; choose {' or '.join(PRECISIONS)}")
    if not any(precision in known for known in PRECISIONS.values()):
        raise ExportError(f"precision {precision!r} cannot be exported; choose {' or '.join((*FLOATS, *INTEGERS))}")
    if precision not in PRECISIONS[target]:
        others = " or ".join(name for name, known in PRECISIONS.items() if precision in known)
        raise UsageError(
            f"target {target} comes in {' and '.join(PRECISIONS[target])}, not in {precision}; "
            f"choose --target {others} for that"
        )


def check_int8_cache(target: str) -> None:
    """Check that a target has an int8 KV cache.

    Raises:
        UsageError: It has none.
    """
    if target != "ort":
        raise UsageError(f"--kv-cache int8 is for --target ort; leave it out with {target}")


def check_rounding(settings: QuantizationSettings, target: str, precision: str) -> None:
    """Check that the settings of the rounding fit a target and a precision.

    Raises:
        UsageError: They do not.
    """
    if settings.int8_block not in INT8_BLOCKS:
        raise UsageError(f"--int8-block {settings.int8_block}: choose {' or '.join(map(str, INT8_BLOCKS))}")
    for given, option, wanted in (
        (settings.int4_head, "--head int4", "int4"),
        (settings.int8_block != INT8_BLOCKS[0], f"--int8-block {settings.int8_block}", "int8"),
    ):
        if given and precision != wanted:
            raise UsageError(f"{option} is for --precision {wanted}; leave it out with {precision}")
        if given and target != "ort":
            raise UsageError(f"{option} is for --target ort; leave it out with {target}")
