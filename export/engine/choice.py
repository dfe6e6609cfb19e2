"""Which TensorRT builds a plan."""

from __future__ import annotations

from dataclasses import dataclass

from minimind_edge.runtime.errors import MissingError, UsageError
from minimind_edge.runtime.tensorrt.backend import INSTALL, Backend, has_backend, load_backend
from minimind_edge.runtime.tensorrt.compute_capability import rtx_refusal
from minimind_edge.runtime.tensorrt.cuda import CudaDevice, CudaLibrary, find_device

from .request import EngineRequest

AUTO = "auto"


@dataclass(frozen=True)
class Choice:
    """A backend, and the GPU at hand, None where there is none."""

    backend: Backend
    device: CudaDevice | None


def choose_backend(request: EngineRequest) -> Choice:
    """Load the backend that was asked for, or the one that fits this machine.

    Raises:
        MissingError: It is not installed, or it needs a GPU and there is none.
        UsageError: An option has no place with it.
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
    # Full TensorRT's objects are null without a driver, and crash: it is loaded where a GPU was found only.
    return Choice(load_backend(name), device)


def _fitting(device: CudaDevice | None) -> str:
    """RTX where the GPU at hand can run its plans or there is none; full TensorRT where only that runs."""
    if device is not None and (rtx_refusal(device.capability) or not has_backend("rtx")):
        return "tensorrt"
    if device is None and not has_backend("rtx"):
        raise MissingError(
            f"no TensorRT that builds without a GPU is installed: run `{INSTALL['rtx']}` for RTX GPUs, or build on the "
            f"device itself, where `{INSTALL['tensorrt']}` brings full TensorRT"
        )
    return "rtx"


def _refuse_options_of_full_tensorrt(request: EngineRequest) -> None:
    given = {"--workspace": request.workspace, "--timing-cache": request.timing_cache}
    for option, value in given.items():
        if value is not None:
            raise UsageError(f"{option} is for full TensorRT; TensorRT-RTX builds without measuring on a GPU")


def _device_at_hand() -> CudaDevice | None:
    try:
        return find_device(CudaLibrary())
    except MissingError:
        return None
