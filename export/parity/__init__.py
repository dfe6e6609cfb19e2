"""Proof that a graph is the model it was made from."""

from __future__ import annotations

from .compare import compare, compare_runners
from .report import ParityReport, ReportRow
from .runner import GraphRunner, RunError, StepOutput
from .suite import Suite
from .tolerance import Tolerance, tolerance_of

__all__ = [
    "GraphRunner",
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
