"""The errors of an export, with the exit codes that a command ends with.

EdgeError (runtime)
├── ExportError  3  a model, a graph or an option that cannot be exported or compared as asked
├── BusyError    4  another process writes to the same place
└── ParityError  5  a graph is not the same model as the checkpoint, within its precision's tolerance
"""

from __future__ import annotations

from minimind_edge.runtime.errors import EdgeError


class ExportError(EdgeError):
    """A model, a graph or an option cannot be exported or compared as asked."""

    exit_code = 3


class BusyError(EdgeError):
    """Another process writes to the place that this one was to write to; nothing was written."""

    exit_code = 4


class ParityError(EdgeError):
    """A graph is not the same model as the checkpoint, within its precision's tolerance."""

    exit_code = 5
