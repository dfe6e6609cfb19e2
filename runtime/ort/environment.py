"""What the machine offers: ONNX Runtime, its execution providers, and cores."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Literal, TypeAlias, get_args

from ..errors import MissingError, UsageError

Device: TypeAlias = Literal["auto", "cpu", "cuda", "tensorrt", "rtx"]
"""Where a graph runs; `auto` is CUDA where ONNX Runtime has it, else the CPU; the last two are TensorRT's providers."""

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"

FUSED_ATTENTION = (1, 32)
"""The ONNX Runtime whose GroupQueryAttention takes `query_seqlens`, and with it every row's own positions."""

NO_TELEMETRY = "ORT_DISABLE_TELEMETRY"
"""The environment variable that ONNX Runtime reads when it starts; `1` turns its telemetry off."""

CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")
TOPOLOGY = Path("/sys/devices/system/cpu")
NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")


def disable_telemetry() -> None:
    """Keep ONNX Runtime from reporting about this machine; a user who has set the variable is left alone.

    Without it, ONNX Runtime 1.32 writes a device id and a database into the user's cache folder, and looks up its
    maker's server some seconds after a session has started.
    """
    os.environ.setdefault(NO_TELEMETRY, "1")


def import_onnxruntime() -> ModuleType:
    """The `onnxruntime` module, imported with its telemetry off: the only place where this package imports it.

    Raises:
        MissingError: It is not installed, or its files are damaged.
    """
    disable_telemetry()
    try:
        onnxruntime = import_module("onnxruntime")
    except ImportError as error:
        raise MissingError(
            f"cannot import onnxruntime ({error}): {_conflict() or 'run `pip install onnxruntime`'}"
        ) from error
    if not hasattr(onnxruntime, "InferenceSession"):  # what uninstalling one of two packages leaves behind
        remedy = _conflict() or "run `pip install --force-reinstall onnxruntime`"
        raise MissingError(f"onnxruntime is installed without its files: {remedy}")
    return onnxruntime


def require_fused_attention(onnxruntime: ModuleType) -> None:
    """See that ONNX Runtime is new enough for graphs of target `ort`, whose attention names inputs that came with 1.32.

    Raises:
        MissingError: It is older.
    """
    release = tuple(int(part) for part in onnxruntime.__version__.split(".")[:2])
    if release < FUSED_ATTENTION:
        raise MissingError(
            f"a graph of target ort needs ONNX Runtime {'.'.join(map(str, FUSED_ATTENTION))}, found "
            f"{onnxruntime.__version__}: run `pip install --upgrade onnxruntime` (Python 3.11 or newer), "
            "or export with --target portable"
        )


def execution_providers(onnxruntime: ModuleType, device: str) -> list[str]:
    """The providers to ask for, best first.

    Args:
        onnxruntime: The module.
        device: `auto`, `cpu` or `cuda`.

    Raises:
        UsageError: The device is none of these.
        MissingError: `cuda`, and this ONNX Runtime was built without it.
    """
    if device not in get_args(Device):
        raise UsageError(f"unknown device {device!r}: expected one of {', '.join(get_args(Device))}")
    if device == "cpu":
        return [CPU]
    if CUDA in onnxruntime.get_available_providers():
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it did not find, wanted or not
            onnxruntime.preload_dlls()
        return [CUDA, CPU]
    if device == "cuda":
        remedy = _conflict() or "run `pip uninstall -y onnxruntime`, then `pip install onnxruntime-gpu`"
        raise MissingError(f"this onnxruntime has no CUDA provider: {remedy}")
    # Finding out takes as long as loading a small graph, so it is asked only where a GPU is likely to be missed.
    if NVIDIA_DRIVER.exists() and (conflict := _conflict()):
        _warn(f"running on the CPU: {conflict}")
    return [CPU]


def require_cuda(started: list[str]) -> None:
    """Check that a session which was asked for CUDA runs on it.

    Args:
        started: The providers that the session reports.

    Raises:
        MissingError: ONNX Runtime fell back to the CPU.
    """
    if CUDA not in started:
        raise MissingError(
            "the CUDA provider did not start: it needs an NVIDIA driver and the CUDA and cuDNN libraries; "
            "run `pip install 'onnxruntime-gpu[cuda,cudnn]'`, or choose `--device cpu`"
        )


def physical_cores() -> int | None:
    """Physical cores that this process may use, None where the system does not tell."""
    if sys.platform != "linux":
        return None
    cores = {_siblings(cpu) for cpu in os.sched_getaffinity(0)}
    quota = _cgroup_cores()
    return len(cores) if quota is None else max(1, min(len(cores), round(quota)))


def _warn(message: str) -> None:
    import logging

    logging.getLogger(__name__).warning(message)


def _siblings(cpu: int) -> str:
    """The hardware threads of the core that `cpu` is one of, as the kernel lists them."""
    try:
        return (TOPOLOGY / f"cpu{cpu}" / "topology" / "thread_siblings_list").read_text().strip()
    except OSError:
        return str(cpu)


def _cgroup_cores() -> float | None:
    """CPU time a container may use, in cores; None without a limit."""
    try:
        quota, period = CGROUP_QUOTA.read_text().split()[:2]
        return int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):  # no such file; "max"
        return None


def _conflict() -> str | None:
    """The way out where both builds of ONNX Runtime are installed, None where they aren't."""
    from importlib import metadata

    for name in ("onnxruntime", "onnxruntime-gpu"):
        try:
            metadata.distribution(name)
        except metadata.PackageNotFoundError:
            return None
    return (
        "onnxruntime and onnxruntime-gpu are both installed and overwrite each other; "
        "run `pip uninstall -y onnxruntime onnxruntime-gpu`, then `pip install onnxruntime-gpu`"
    )
