"""From the path of a plan to the session that runs it."""

from __future__ import annotations

import os
from typing import TypeAlias

from .growing_session import GrowingTensorRTSession
from .plan import Plan
from .session import TensorRTSession

PlanSession: TypeAlias = TensorRTSession | GrowingTensorRTSession


def load_plan(path: str | os.PathLike[str], *, max_length: int | None = None, device_ordinal: int = 0) -> PlanSession:
    """Load a plan on a GPU.

    Args:
        path: The `.plan`, its `.plan.json` beside it.
        max_length: Most positions, None for the plan's own limit, which stands where it is less.
        device_ordinal: Number of the GPU.

    Raises:
        ArtifactError: The plan or its description is missing, damaged or foreign.
        MissingError: There is no driver, GPU or TensorRT for it, or no memory.
        UsageError: `max_length` is less than 1.
    """
    from .cuda_driver import CudaDriver
    from .loading import LoadedEngine
    from .preflight import require_backend, require_device

    plan = Plan.read(path)
    data = plan.load_bytes()
    library, device = require_device(plan, device_ordinal)
    backend = require_backend(plan)
    driver = CudaDriver(library, device)
    loaded = LoadedEngine(backend, plan, data, device)
    contexts = loaded.contexts(driver)
    if plan.cache_form == "growing":
        return GrowingTensorRTSession(plan, driver, contexts, max_length=max_length, reason=loaded.reason)
    return TensorRTSession(
        plan,
        driver,
        contexts,
        max_length=max_length,
        records_steps=not loaded.replays_by_itself,
        reason=loaded.reason,
    )
