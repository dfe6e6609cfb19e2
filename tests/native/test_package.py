"""The package: what it exports, and the layout of ONNX Runtime's interface that it assumes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from native_nodes import library_path, limit_lanes

ABI = Path(__file__).resolve().parents[2] / "native" / "src" / "ort_abi.h"
HEADER = Path(os.environ.get("ONNXRUNTIME_HEADER", "onnxruntime_c_api.h"))


def test_the_library_is_in_the_package():
    path = Path(library_path())
    assert path.is_file() and path.parent.name == "native"
    assert limit_lanes(16) in {8, 16}


def test_importing_the_package_imports_nothing_else():
    code = "import sys, typing; old = set(sys.modules); import minimind_edge.native; print(*set(sys.modules) - old)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(told.stdout.split()) <= {"minimind_edge", "minimind_edge.native", "__future__"}


@pytest.mark.skipif(not HEADER.is_file(), reason="ONNXRUNTIME_HEADER=onnxruntime_c_api.h names no file")
def test_positions_are_those_of_onnx_runtimes_header():
    body = re.search(r"struct OrtApi \{(.*?)\n\};", HEADER.read_text(), re.DOTALL)[1]
    body = re.sub(r"/\*.*?\*/|//[^\n]*", "", body, flags=re.DOTALL)
    entry = r"ORT_API2_STATUS\(\s*(\w+)|ORT_(CLASS_RELEASE)\(\s*(\w+)|\(\s*ORT_API_CALL\s*\*\s*(\w+)\)\("
    found = [f"Release{each[3]}" if each[2] else each[1] or each[4] for each in re.finditer(entry, body)]
    ours = dict(re.findall(r"^ORT_AT\((\w+), (\d+)\);", ABI.read_text(), re.MULTILINE))
    assert len(ours) > 10
    assert {name: found.index(name) for name in ours} == {name: int(position) for name, position in ours.items()}


@pytest.mark.skipif(not HEADER.is_file(), reason="ONNXRUNTIME_HEADER=onnxruntime_c_api.h names no file")
def test_the_functions_of_an_operator_are_in_the_headers_order():
    body = re.search(r"struct OrtCustomOp \{(.*?)\n\};", HEADER.read_text(), re.DOTALL)[1]
    theirs = re.findall(r"\(ORT_API_CALL\s*\*\s*(\w+)\)", body)
    ours = re.findall(r"\(\*(\w+)\)", re.search(r"struct OrtCustomOp \{(.*?)\n\};", ABI.read_text(), re.DOTALL)[1])
    assert len(ours) > 20 and ours == theirs[: len(ours)]
