"""Parity: proof that a graph computes what the eager model that it was made from computes."""

from __future__ import annotations

from .case import Suite
from .compare import compare, compare_runners
from .reference import EagerOutput, EagerReference, ModelShape
from .report import ParityReport, ReportRow
from .runner import GraphRunner, RunError, StepOutput
from .tolerance import Tolerance, tolerance_of

__all__ = [
    "EagerOutput",
    "EagerReference",
    "GraphRunner",
    "ModelShape",
    "ParityReport",
    "ReportRow",
    "RunError",
    "StepOutput",
    "Suite",
    "Tolerance",
    "compare",
    "compare_runners",
    "tolerance_of",
]
