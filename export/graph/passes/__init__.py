"""Passes over a whole graph, one job each."""

from __future__ import annotations

from onnx_ir import passes
from onnx_ir.passes.common import ShapeInferencePass

from .skip_norm import FuseSkipNorm

__all__ = ["FuseSkipNorm", "finishing_passes"]


def finishing_passes(target: str) -> passes.Sequential:
    """The passes over a finished graph of this target, before it is written."""
    fusions = [FuseSkipNorm()] if target == "ort" else []
    return passes.Sequential(ShapeInferencePass(strict_mode=False), *fusions)
