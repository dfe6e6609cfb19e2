"""Compute capabilities: the GPUs that a plan was built for, and those that it runs on."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import UsageError


@dataclass(frozen=True, order=True)
class ComputeCapability:
    """NVIDIA's version number of a GPU's instruction set, such as 8.6."""

    major: int
    minor: int

    @classmethod
    def parse(cls, text: str) -> ComputeCapability:
        """Parse the form "8.6".

        Raises:
            UsageError: The text has another form.
        """
        if not re.fullmatch(r"\d{1,2}\.\d", text):
            raise UsageError(f"{text!r} is no compute capability: expected MAJOR.MINOR, as in 8.6")
        major, minor = text.split(".")
        return cls(int(major), int(minor))

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"


RTX_CAPABILITIES = tuple(ComputeCapability(*each) for each in ((7, 5), (8, 0), (8, 6), (8, 9), (12, 0), (12, 1)))
"""The compute capabilities that TensorRT-RTX can build plans for."""

RTX_DEFAULT = RTX_CAPABILITIES[1:]
"""The compute capabilities that a plan is built for by default: without Turing (7.5), which lacks bfloat16."""

FULL_TENSORRT_ONLY = {
    ComputeCapability(8, 7): "Jetson Orin",
    ComputeCapability(9, 0): "H100, H200",
    ComputeCapability(10, 0): "B200, GB200",
    ComputeCapability(10, 3): "B300, GB300",
    ComputeCapability(11, 0): "Jetson Thor",
}
"""The names of GPUs that TensorRT-RTX does not support, by compute capability."""


def rtx_refusal(capability: ComputeCapability) -> str | None:
    """The reason why TensorRT-RTX cannot build a plan for a GPU; None where it can."""
    if capability in RTX_CAPABILITIES or capability.major == RTX_CAPABILITIES[-1].major:
        return None
    gpus = FULL_TENSORRT_ONLY.get(capability)
    names = f" ({gpus})" if gpus else ""
    supported = ", ".join(map(str, RTX_CAPABILITIES))
    return f"TensorRT-RTX does not run on compute capability {capability}{names}, only on {supported} and later 12.x"


def runs_on(built_for: Iterable[ComputeCapability], device: ComputeCapability, backend: str) -> bool:
    """Whether a plan runs on a GPU.

    Args:
        built_for: Compute capabilities that the plan was built for.
        device: Compute capability of the GPU.
        backend: `tensorrt`, whose plans run only on the capability that they were built for, or `rtx`, whose plans for
            a 12.x run on later ones too.
    """
    if backend == "rtx" and device.major == RTX_CAPABILITIES[-1].major:
        return any(each.major == device.major and each <= device for each in built_for)
    return device in tuple(built_for)
