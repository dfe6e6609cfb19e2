"""The GPUs to build for, held against what the backend builds and what the weights' types need."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from minimind_edge.runtime.errors import UsageError
from minimind_edge.runtime.tensorrt.compute_capability import RTX_DEFAULT, ComputeCapability, rtx_refusal

NEEDS: dict[int, tuple[str, ComputeCapability]] = {
    onnx.TensorProto.BFLOAT16: ("bf16", ComputeCapability(8, 0)),
    onnx.TensorProto.FLOAT8E4M3FN: ("fp8", ComputeCapability(8, 9)),
    onnx.TensorProto.FLOAT4E2M1: ("fp4", ComputeCapability(10, 0)),
}
"""The first compute capability whose GPUs calculate with a type."""


def choose_capabilities(
    asked: Sequence[str], backend: str, types: set[int], device: ComputeCapability | None
) -> tuple[ComputeCapability, ...]:
    """The compute capabilities of a plan, sorted.

    Args:
        asked: For by the user, as in "8.6"; empty for the default.
        backend: `tensorrt`, which builds for the GPU at hand alone, or `rtx`.
        types: Element types of the weights, ONNX's numbers.
        device: The GPU at hand, None where there is none.

    Raises:
        UsageError: One is not to be built for, or lacks a type that the weights have.
    """
    named = sorted({ComputeCapability.parse(each) for each in asked})
    if backend == "tensorrt":
        return _full(named, device)
    for capability in named:
        if (refusal := rtx_refusal(capability)) is not None:
            raise UsageError(f"{refusal}; build on that machine with --backend tensorrt")
        for name, least in _needs(types):
            if capability < least:
                raise UsageError(
                    f"compute capability {capability} does not calculate in {name}, which takes {least} or later; "
                    "leave it out or choose another --precision"
                )
    default = [each for each in RTX_DEFAULT if all(each >= least for _, least in _needs(types))]
    return tuple(named or default)


def _full(named: list[ComputeCapability], device: ComputeCapability | None) -> tuple[ComputeCapability, ...]:
    assert device is not None  # the backend is not chosen without one
    if named not in ([], [device]):
        raise UsageError(
            f"full TensorRT builds for the GPU at hand alone ({device}), not for {', '.join(map(str, named))}; "
            "leave --compute-capability out, and build on the machine that runs the plan"
        )
    return (device,)


def _needs(types: set[int]) -> list[tuple[str, ComputeCapability]]:
    return [need for number, need in NEEDS.items() if number in types]
