"""The environment of ONNX Runtime: its import, its execution providers, and the machine's processor."""

from __future__ import annotations

import contextlib
import io
import os
import platform
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Literal, TypeAlias, get_args

from ..errors import MissingError, UsageError

Device: TypeAlias = Literal["auto", "cpu", "cuda", "tensorrt", "rtx"]
"""The device that a graph runs on; `auto` is CUDA if ONNX Runtime has it, else the CPU; `tensorrt` and `rtx` are
providers of ONNX Runtime."""

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"

FUSED_ATTENTION = (1, 32)
"""The first ONNX Runtime whose GroupQueryAttention takes `query_seqlens`, and with it positions by row."""

NO_TELEMETRY = "ORT_DISABLE_TELEMETRY"
"""The environment variable by which ONNX Runtime's telemetry is turned off at its start, with the value `1`."""

CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")
TOPOLOGY = Path("/sys/devices/system/cpu")
NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")


def disable_telemetry() -> None:
    """Turn ONNX Runtime's telemetry off, unless the user has set the variable.

    With telemetry, ONNX Runtime 1.32 writes a device id and a database into the user's cache folder, and contacts a
    server some seconds after a session has started.
    """
    os.environ.setdefault(NO_TELEMETRY, "1")


def import_onnxruntime() -> ModuleType:
    """Import `onnxruntime` with its telemetry off; the only place in this package that imports it.

    Raises:
        MissingError: ONNX Runtime is not installed, or its files are damaged.
    """
    disable_telemetry()
    try:
        onnxruntime = import_module("onnxruntime")
    except ImportError as error:
        raise MissingError(
            f"cannot import onnxruntime ({error}): {_conflict() or 'run `pip install onnxruntime`'}"
        ) from error
    if not hasattr(onnxruntime, "InferenceSession"):  # the remains after uninstalling one of two packages
        remedy = _conflict() or "run `pip install --force-reinstall onnxruntime`"
        raise MissingError(f"onnxruntime is installed without its files: {remedy}")
    return onnxruntime


def require_fused_attention(onnxruntime: ModuleType) -> None:
    """Check that ONNX Runtime is new enough for graphs of target `ort`, whose attention takes `query_seqlens`.

    Raises:
        MissingError: ONNX Runtime is older.
    """
    release = tuple(int(part) for part in onnxruntime.__version__.split(".")[:2])
    if release < FUSED_ATTENTION:
        raise MissingError(
            f"a graph of target ort needs ONNX Runtime {'.'.join(map(str, FUSED_ATTENTION))}, found "
            f"{onnxruntime.__version__}: run `pip install --upgrade onnxruntime` (Python 3.11 or newer), "
            "or export with --target portable, or, for a GPU, with --precision fp16"
        )


def execution_providers(onnxruntime: ModuleType, device: str) -> list[str]:
    """The execution providers for a device, in order of preference.

    Args:
        onnxruntime: The imported module.
        device: `auto`, `cpu` or `cuda`.

    Raises:
        UsageError: The device is unknown.
        MissingError: The device is `cuda`, and this ONNX Runtime was built without CUDA.
    """
    if device not in get_args(Device):
        raise UsageError(f"unknown device {device!r}: expected one of {', '.join(get_args(Device))}")
    if device == "cpu":
        return [CPU]
    if CUDA in onnxruntime.get_available_providers():
        with contextlib.redirect_stdout(io.StringIO()):  # it prints missing libraries even where none is needed
            onnxruntime.preload_dlls()
        return [CUDA, CPU]
    if device == "cuda":
        remedy = _conflict() or "run `pip uninstall -y onnxruntime`, then `pip install onnxruntime-gpu`"
        raise MissingError(f"this onnxruntime has no CUDA provider: {remedy}")
    # The check takes as long as loading a small graph, so it is made only where a GPU is likely to be missed.
    if NVIDIA_DRIVER.exists() and (conflict := _conflict()):
        warn(f"running on the CPU: {conflict}")
    return [CPU]


def require_cuda(started: list[str]) -> None:
    """Check that a session for CUDA runs on it.

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
    """The number of physical cores that this process may use, None where the system does not report it."""
    if sys.platform != "linux":
        return None
    cores = {_siblings(cpu) for cpu in os.sched_getaffinity(0)}
    quota = _cgroup_cores()
    return len(cores) if quota is None else max(1, min(len(cores), round(quota)))


def usable_cores() -> int:
    """The number of logical cores that this process may run on."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_name() -> str:
    """The processor's name as the system reports it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith(("model name", "Model")):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def warn(message: str) -> None:
    """Warn by Python's logging, which prints on stderr unless the program has set it up."""
    import logging

    logging.getLogger(__name__).warning(message)


def _siblings(cpu: int) -> str:
    """The kernel's list of the hardware threads that share a core with the logical CPU `cpu`."""
    try:
        return (TOPOLOGY / f"cpu{cpu}" / "topology" / "thread_siblings_list").read_text().strip()
    except OSError:
        return str(cpu)


def _cgroup_cores() -> float | None:
    """The limit of a container's CPU time, in cores; None without a limit."""
    try:
        quota, period = CGROUP_QUOTA.read_text().split()[:2]
        return int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):  # no such file; "max"
        return None


def _conflict() -> str | None:
    """The remedy where both builds of ONNX Runtime are installed, None where they are not."""
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
