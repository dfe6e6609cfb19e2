"""ONNX Runtime is imported in one place, which turns its telemetry off first."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import minimind_edge.cli
import minimind_edge.export
import minimind_edge.minimind
import minimind_edge.runtime

PACKAGES = (minimind_edge.cli, minimind_edge.export, minimind_edge.minimind, minimind_edge.runtime)
IMPORTED = "import os; from minimind_edge.runtime.ort.environment import import_onnxruntime as load; load(); "


def run_time_imports(tree: ast.AST) -> list[str]:
    """The modules that a file imports when it runs: what stands under `if TYPE_CHECKING` is left out."""
    found: list[str] = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.append(node.module or "")
        found += run_time_imports(node)
    return found


def test_no_other_file_of_the_packages_imports_onnxruntime():
    files = [path for package in PACKAGES for path in Path(package.__file__).parent.rglob("*.py")]
    assert len(files) > 100
    found = [
        str(path)
        for path in files
        if any(name.split(".")[0] == "onnxruntime" for name in run_time_imports(ast.parse(path.read_text("utf-8"))))
    ]
    assert found == []


@pytest.mark.parametrize(("users", "expected"), [(None, "1"), ("0", "0"), ("1", "1")])
def test_telemetry_is_off_unless_the_user_has_set_the_variable(tmp_path, users, expected):
    environment = os.environ | {"HOME": str(tmp_path)}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    if users is not None:
        environment["ORT_DISABLE_TELEMETRY"] = users
    program = IMPORTED + "print(os.environ['ORT_DISABLE_TELEMETRY'])"
    result = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert result.stdout == f"{expected}\n"
