"""TensorRT and TensorRT-RTX plans: their requirements, and the session's model that runs them."""

from __future__ import annotations

PLAN_SUFFIX = ".plan"
"""The file name ending of a TensorRT plan, which runs with its `.plan.json` next to it."""
