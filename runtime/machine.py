"""What a measurement was made on, and what it cost the machine."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .ort.environment import import_onnxruntime


def describe_machine() -> dict[str, Any]:
    """The machine and the versions that a measurement depends on, in values that JSON holds.

    Returns:
        `cpu` (its name), `cores` (those that this process may use), `system`, `python`, `onnxruntime`, `numpy`.
    """
    return {
        "cpu": cpu_name(),
        "cores": usable_cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "onnxruntime": onnxruntime_version(),
        "numpy": version("numpy"),
    }


def cpu_name() -> str:
    """The processor's name as the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith(("model name", "Model")):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def gpu_name() -> str | None:
    """The first NVIDIA GPU's name as its driver tells it, None where there is none."""
    from .errors import MissingError
    from .tensorrt.cuda_library import CudaLibrary
    from .tensorrt.device import find_device

    try:
        return find_device(CudaLibrary()).name
    except MissingError:
        return None


def usable_cores() -> int:
    """Logical cores that this process may run on."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def onnxruntime_version() -> str:
    """The version of onnxruntime, whichever distribution brought it."""
    return str(import_onnxruntime().__version__)


def peak_rss_bytes() -> int | None:
    """The most memory that this process has held, bytes; None where the system does not tell."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
