"""Parity: comparison of a graph with the eager model that it was made from."""

from __future__ import annotations

from .case import Suite
from .compare import compare, compare_plan, compare_runners
from .reference import EagerOutput, EagerReference, ModelShape
from .report import ParityReport, ReportRow
from .runner import RunError, SessionRunner, StepOutput
from .tolerance import Tolerance, tolerance_of

__all__ = [
    "EagerOutput",
    "EagerReference",
    "ModelShape",
    "ParityReport",
    "ReportRow",
    "RunError",
    "SessionRunner",
    "StepOutput",
    "Suite",
    "Tolerance",
    "compare",
    "compare_plan",
    "compare_runners",
    "tolerance_of",
]
