"""The choice of the TensorRT that builds a plan, and of the GPUs that it builds for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx

from minimind_edge.runtime.errors import MissingError, UsageError
from minimind_edge.runtime.tensorrt.backend import INSTALL, Backend, has_backend, load_backend
from minimind_edge.runtime.tensorrt.cuda import CudaDevice, CudaLibrary, find_device
from minimind_edge.runtime.tensorrt.plan import RTX_DEFAULT, ComputeCapability, rtx_refusal

from .builder import network_flags
from .request import PlanRequest

AUTO = "auto"

NEEDS: dict[int, tuple[str, ComputeCapability]] = {
    onnx.TensorProto.BFLOAT16: ("bf16", ComputeCapability(8, 0)),
    onnx.TensorProto.FLOAT8E4M3FN: ("fp8", ComputeCapability(8, 9)),
    onnx.TensorProto.FLOAT4E2M1: ("fp4", ComputeCapability(10, 0)),
}
"""The name of each element type, and the first compute capability whose GPUs calculate with it."""


@dataclass(frozen=True)
class Choice:
    """A backend, and the GPU of this machine; None where there is none."""

    backend: Backend
    device: CudaDevice | None


def choose_backend(request: PlanRequest) -> Choice:
    """Load the backend that was named, or the one that fits this machine.

    Raises:
        MissingError: The backend is not installed, or it needs a GPU and there is none.
        UsageError: An option does not apply to the backend.
    """
    device = _device_at_hand()
    name = request.backend if request.backend != AUTO else _fitting(device)
    if name == "rtx":
        _refuse_options_of_full_tensorrt(request)
    elif device is None:
        raise MissingError(
            "full TensorRT measures kernels on the GPU that it builds for, and there is none here: build on the device "
            "itself, or for RTX GPUs ahead of time with --backend rtx"
        )
    # Without a driver, full TensorRT's objects are null and crash: it is loaded only where a GPU was found.
    return Choice(load_backend(name), device)


def require_tensor_scatter(backend: Backend) -> None:
    """Check that this TensorRT has the operator that writes a key-value cache in place.

    Raises:
        MissingError: Its parser is too old.
    """
    logger = backend.logger()
    builder = backend.module.Builder(logger)
    parser = backend.module.OnnxParser(builder.create_network(network_flags(backend)), logger)
    if not parser.supports_operator("TensorScatter"):
        raise MissingError(
            f"{backend.title} is too old: its parser lacks TensorScatter (ONNX opset 24), which writes the cache in "
            "place; install a newer TensorRT, or run a graph of target portable with `minimind-run --device tensorrt`"
        )


def _fitting(device: CudaDevice | None) -> str:
    """TensorRT-RTX if the GPU here runs its plans or there is no GPU; full TensorRT if only that runs here."""
    if device is not None and (rtx_refusal(device.capability) or not has_backend("rtx")):
        return "tensorrt"
    if device is None and not has_backend("rtx"):
        raise MissingError(
            f"no TensorRT that builds without a GPU is installed: run `{INSTALL['rtx']}` for RTX GPUs, or build on the "
            f"device itself, where `{INSTALL['tensorrt']}` installs full TensorRT"
        )
    return "rtx"


def _refuse_options_of_full_tensorrt(request: PlanRequest) -> None:
    given = {"--workspace": request.workspace, "--timing-cache": request.timing_cache}
    for option, value in given.items():
        if value is not None:
            raise UsageError(f"{option} is for full TensorRT; TensorRT-RTX builds without measuring on a GPU")


def _device_at_hand() -> CudaDevice | None:
    try:
        return find_device(CudaLibrary())
    except MissingError:
        return None


def choose_capabilities(
    asked: Sequence[str], backend: str, types: set[int], device: ComputeCapability | None
) -> tuple[ComputeCapability, ...]:
    """The compute capabilities of a plan, sorted.

    Args:
        asked: Compute capabilities that the user named, such as "8.6"; empty for the default.
        backend: `tensorrt`, which builds only for this machine's GPU, or `rtx`.
        types: Element types of the weights, by ONNX's numbers.
        device: This machine's GPU; None where there is none.

    Raises:
        UsageError: The backend does not build for one of them, or its GPUs lack a type that the weights have.
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
            f"full TensorRT builds only for this machine's GPU ({device}), not for {', '.join(map(str, named))}; "
            "leave --compute-capability out, and build on the machine that runs the plan"
        )
    return (device,)


def _needs(types: set[int]) -> list[tuple[str, ComputeCapability]]:
    return [need for number, need in NEEDS.items() if number in types]
