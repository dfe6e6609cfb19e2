"""TensorRT and TensorRT-RTX plans from checkpoints and artifacts."""

from __future__ import annotations

from .pipeline import build_engine
from .request import EngineRequest, EngineResult

__all__ = ["EngineRequest", "EngineResult", "build_engine"]
