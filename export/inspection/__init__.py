"""Inspection: what a checkpoint, a graph, an artifact or a plan is."""

from __future__ import annotations

from .inspect import inspect_path

__all__ = ["inspect_path"]
