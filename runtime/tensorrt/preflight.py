"""What a plan needs against what is here, asked before TensorRT is touched: without a driver it would crash."""

from __future__ import annotations

from ..errors import MissingError
from .backend import Backend, load_backend
from .compute_capability import rtx_refusal, runs_on
from .cuda_library import CudaLibrary
from .device import CudaDevice, find_device
from .plan import BACKEND_NAMES, Plan

VERSION_PARTS = 3
"""Leading numbers of a version that must be the plan's; the fourth counts builds of the same release."""


def require_device(plan: Plan, ordinal: int = 0) -> tuple[CudaLibrary, CudaDevice]:
    """The driver and the GPU that a plan can run on.

    Raises:
        MissingError: There is no driver, no GPU, or one that the plan was not built for.
    """
    try:
        library = CudaLibrary()
        device = find_device(library, ordinal)
    except MissingError as error:
        raise MissingError(f"{plan.path} needs {needs(plan)}: {error}") from error
    check_device(plan, device)
    return library, device


def require_backend(plan: Plan) -> Backend:
    """The TensorRT that built a plan.

    Raises:
        MissingError: It is not installed, or in another version.
    """
    try:
        backend = load_backend(plan.backend)
    except MissingError as error:
        raise MissingError(f"{plan.path} needs {needs(plan)}: {error}") from error
    check_version(plan, backend.version)
    return backend


def check_device(plan: Plan, device: CudaDevice) -> None:
    """See that a plan runs on a GPU.

    Raises:
        MissingError: It does not.
    """
    if runs_on(plan.compute_capabilities, device.capability, plan.backend):
        return
    refusal = rtx_refusal(device.capability) if plan.backend == "rtx" else None
    if refusal is not None:
        command = plan.rebuild_command(backend="tensorrt")
        remedy = f"{refusal}; build it on this machine with full TensorRT: `{command}`"
    elif plan.backend == "rtx":
        remedy = f"build it again with `{plan.rebuild_command(capability=device.capability)}`"
    else:
        remedy = f"plans of TensorRT run on the kind of GPU that built them; on this one, `{plan.rebuild_command()}`"
    raise MissingError(
        f"{plan.path} needs {needs(plan)}; here is {device.name} with compute capability {device.capability}: {remedy}"
    )


def check_version(plan: Plan, version: str) -> None:
    """See that a plan is of the TensorRT that is installed: one version does not read another's plans.

    Raises:
        MissingError: It is not.
    """
    if _release(version) == _release(plan.version):
        return
    raise MissingError(
        f"{plan.path} needs {needs(plan)}; here is {BACKEND_NAMES[plan.backend]} {version}: install the plan's "
        f"version, or build it again with `{plan.rebuild_command()}`"
    )


def needs(plan: Plan) -> str:
    """What a plan runs on, for people."""
    capabilities = ", ".join(map(str, plan.compute_capabilities))
    return f"{BACKEND_NAMES[plan.backend]} {plan.version} and a GPU of compute capability {capabilities}"


def _release(version: str) -> list[str]:
    return version.split(".")[:VERSION_PARTS]
