"""The findings of onnx's checker, Netron and polygraphy about a graph, as JSON.

Usage: describe.py GRAPH
"""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import onnx


def main() -> None:
    """Print the tools and their findings; exits with an error where one of them cannot open the graph."""
    graph = sys.argv[1]
    onnx.checker.check_model(graph, full_check=True)
    result = {
        "tools": [f"{name} {version(name)}" for name in ("onnx", "netron", "polygraphy")],
        "netron": json.loads(_output("node", str(Path(__file__).with_name("netron.mjs")), _netron_folder(), graph)),
        "polygraphy": _output(str(Path(sys.executable).with_name("polygraphy")), "inspect", "model", graph),
    }
    print(json.dumps(result))


def _netron_folder() -> str:
    spec = find_spec("netron")
    if spec is None or spec.origin is None:
        raise SystemExit("netron is not installed")
    return str(Path(spec.origin).parent)


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    main()
