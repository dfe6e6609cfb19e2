"""TensorRT and TensorRT-RTX plans, built from checkpoints, artifacts and graphs."""

from __future__ import annotations

from .pipeline import build_plan
from .request import PlanRequest, PlanResult

__all__ = ["PlanRequest", "PlanResult", "build_plan"]
