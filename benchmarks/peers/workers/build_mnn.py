"""Build MNN's engine from source for this machine's instructions, into the environment that runs this program.

Called as `build_mnn.py SOURCE WORK`, where SOURCE is a checkout of MNN's repository and WORK a folder for the build.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

VERSION = "3.6.1"
"""The version that is measured, which is the wheel's."""

OPTIONS = ("MNN_BUILD_LLM", "MNN_AVX512", "MNN_LOW_MEMORY", "MNN_SUPPORT_TRANSFORMER_FUSE")
"""What MNN's documentation switches on for language models, and the instructions that its wheel is built without."""

INCLUDES = ("include", "express", "source", "tools", "schema/current", "3rd_party", "3rd_party/flatbuffers/include")
LLM_INCLUDES = ("transformers/llm/engine/include", "3rd_party/half", "tools/cv/include")
DEFINITIONS = ("PYMNN_EXPR_API", "PYMNN_LLM_API", "PYMNN_NUMPY_USABLE", "BUILD_OPTYPE")


def main(source: Path, work: Path) -> None:
    """Build the library, and MNN's own Python binding against it."""
    if version(source) != VERSION:
        raise SystemExit(f"{source} is no checkout of MNN {VERSION}")
    switches = [f"-D{name}=ON" for name in OPTIONS] + ["-DMNN_SEP_BUILD=OFF", "-DMNN_BUILD_TOOLS=OFF"]
    run("cmake", "-S", source, "-B", work, "-DCMAKE_BUILD_TYPE=Release", *switches)
    run("cmake", "--build", work, "--target", "MNN", "--parallel", os.cpu_count() or 1)
    packages = Path(sysconfig.get_path("platlib"))
    shutil.copy(work / "libMNN.so", packages / "libMNN.so")
    build_binding(source, work, packages / f"_mnncengine{sysconfig.get_config_var('EXT_SUFFIX')}")


def version(source: Path) -> str:
    """The version of a checkout; empty where it is none."""
    header = source / "include" / "MNN" / "MNNDefine.h"
    text = header.read_text(encoding="utf-8") if header.is_file() else ""
    return ".".join(re.findall(r"#define MNN_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)", text))


def build_binding(source: Path, work: Path, target: Path) -> None:
    """Compile the Python module, which finds the library next to itself."""
    import numpy

    folders = [source / name for name in (*INCLUDES, *LLM_INCLUDES)]
    folders += [Path(sysconfig.get_path("include")), Path(numpy.get_include())]
    flags = ["-O2", "-std=c++11", "-fPIC", "-shared", "-w", *(f"-D{name}" for name in DEFINITIONS)]
    files = [source / "pymnn" / "src" / "MNN.cc", "-o", target]
    link = [f"-L{work}", "-lMNN", "-Wl,-rpath,$ORIGIN"]
    run("c++", *flags, *(f"-I{folder}" for folder in folders), *files, *link)


def run(*command: object) -> None:
    """Run a command; where it fails, its own last line is the reason, so there is no traceback."""
    status = subprocess.run([str(word) for word in command], check=False).returncode
    if status:
        raise SystemExit(status)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve())
