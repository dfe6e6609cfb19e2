"""The plugin for `optimum-cli`, which runs each file of its namespace `optimum.commands.register` when it starts.

PyTorch is imported only for an ONNX export.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec

REGISTER_COMMANDS: list[object] = []
"""The plugin's commands: none, as it only adds the model type."""

if sys.argv[1:3] == ["export", "onnx"] and find_spec("optimum.exporters.onnx") is not None:
    import minimind_edge.export.optimum  # noqa: F401
