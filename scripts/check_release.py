"""Build the source archives next to the wheels, and check that all are ready for a package index.

Ready means: the metadata of each is valid, the versions are the same, and a wheel that is built from the archive alone
has the files of the wheel that is built from the checkout. The operators in C++ are published as an archive only, from
which pip has to build a wheel with a library.

Usage: check_release.py DIST_DIR
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from packaging.metadata import Metadata

ROOT = Path(__file__).resolve().parent.parent
PROJECTS = {"minimind_edge": ROOT, "minimind_edge_export": ROOT / "export"}
NATIVE = ROOT / "native"
NATIVE_FILES = {f"minimind_edge/native/{name}" for name in ("__init__.py", "operators.so", "py.typed")}
BUILD = "import sys; from {backend} import build_sdist; print(build_sdist(sys.argv[1]))"


def build_archive(project: Path, folder: Path, backend: str = "setuptools.build_meta") -> Path:
    """Build the source archive of a project into a folder, and return its path."""
    command = [sys.executable, "-c", BUILD.format(backend=backend), str(folder)]
    told = subprocess.run(command, cwd=project, capture_output=True, text=True, check=True).stdout
    return folder / told.splitlines()[-1]


def wheel_of(archive: Path, folder: Path, *options: str) -> Path:
    """Build a wheel from a source archive alone into a folder, and return its path."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-deps"]
    subprocess.run([*command, *options, "--wheel-dir", str(folder), str(archive)], check=True)
    return next(folder.glob("*.whl"))


def files_of(wheel: Path) -> dict[str, int]:
    """The size of each file of a wheel, in bytes, without those that describe the wheel."""
    with zipfile.ZipFile(wheel) as content:
        return {entry.filename: entry.file_size for entry in content.infolist() if ".dist-info/" not in entry.filename}


def metadata_of(wheel: Path) -> Metadata:
    """The metadata of a wheel.

    Raises:
        ExceptionGroup: A field is not as package indexes require it.
    """
    with zipfile.ZipFile(wheel) as content:
        name = next(name for name in content.namelist() if name.endswith(".dist-info/METADATA"))
        return Metadata.from_email(content.read(name), validate=True)


def problems(name: str, project: Path, folder: Path) -> list[str]:
    """What keeps a project from being published; its source archive is left next to its wheel."""
    (wheel,) = folder.glob(f"{name}-*.whl")
    with tempfile.TemporaryDirectory() as scratch:
        archive = build_archive(project, Path(scratch))
        rebuilt = wheel_of(archive, Path(scratch), "--no-build-isolation")
        ours, theirs = files_of(wheel), files_of(rebuilt)
        shutil.move(archive, folder / archive.name)
    metadata = metadata_of(wheel)
    found = [f"{archive.name} does not build the file {file}" for file in sorted(ours.keys() - theirs.keys())]
    found += [f"{archive.name} builds another {file}" for file in sorted(theirs) if ours.get(file) != theirs[file]]
    found += description_problems(wheel.name, metadata)
    print(f"check_release: {wheel.name} and {archive.name}, version {metadata.version}, {len(ours)} files")
    return found


def description_problems(name: str, metadata: Metadata) -> list[str]:
    """What the metadata lacks that a package index shows."""
    if metadata.summary and metadata.license_expression and metadata.description_content_type == "text/markdown":
        return []
    return [f"{name} lacks a summary, a license or a description in Markdown"]


def native_problems(folder: Path, versions: set[str]) -> list[str]:
    """What keeps the operators in C++ from being published; their source archive is left in the folder."""
    with tempfile.TemporaryDirectory() as scratch:
        archive = build_archive(NATIVE, Path(scratch), "scikit_build_core.build")
        wheel = wheel_of(archive, Path(scratch))  # as pip builds it for a user
        files, metadata = files_of(wheel), metadata_of(wheel)
        shutil.move(archive, folder / archive.name)
    found = description_problems(archive.name, metadata)
    found += [f"{archive.name} does not build the file {name}" for name in sorted(NATIVE_FILES - files.keys())]
    found += [f"{archive.name} builds the file {name}" for name in sorted(files.keys() - NATIVE_FILES)]
    if str(metadata.version) not in versions:
        found.append(f"{archive.name} has another version than the wheels")
    print(f"check_release: {archive.name}, version {metadata.version}, builds {wheel.name}")
    return found


def main() -> int:
    """Check every project; return 1 where one cannot be published."""
    folder = Path(sys.argv[1]).resolve()
    found = [problem for name, project in PROJECTS.items() for problem in problems(name, project, folder)]
    versions = {wheel.name.split("-")[1] for wheel in folder.glob("*.whl")}
    if len(versions) > 1:
        found.append(f"the wheels have several versions: {', '.join(sorted(versions))}")
    found += native_problems(folder, versions)
    for problem in found:
        print(f"check_release: {problem}", file=sys.stderr)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
