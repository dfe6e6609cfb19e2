"""Found by `optimum-cli`, which runs each file of its namespace `optimum.commands.register` when it starts.

Only an ONNX export pays for the import of PyTorch.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec

REGISTER_COMMANDS: list[object] = []
"""No command of its own: the model type is what is added."""

if sys.argv[1:3] == ["export", "onnx"] and find_spec("optimum.exporters.onnx") is not None:
    import minimind_edge.export.optimum  # noqa: F401
