"""Inspection: description of a checkpoint, a graph, an artifact or a plan."""

from __future__ import annotations

from .inspect import inspect_path

__all__ = ["inspect_path"]
