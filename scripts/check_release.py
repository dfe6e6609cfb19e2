"""Build the source archives next to the wheels, and check that both are ready for a package index.

Ready means: the metadata of each is valid, the versions are the same, and a wheel that is built from the archive alone
has the files of the wheel that is built from the checkout.

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
BUILD = "import sys; from setuptools import build_meta; print(build_meta.build_sdist(sys.argv[1]))"


def build_archive(project: Path, folder: Path) -> Path:
    """Build the source archive of a project into a folder, and return its path."""
    told = subprocess.run(
        [sys.executable, "-c", BUILD, str(folder)], cwd=project, capture_output=True, text=True, check=True
    ).stdout
    return folder / told.splitlines()[-1]


def wheel_of(archive: Path, folder: Path) -> Path:
    """Build a wheel from a source archive alone into a folder, and return its path."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-deps"]
    subprocess.run([*command, "--no-build-isolation", "--wheel-dir", str(folder), str(archive)], check=True)
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
        rebuilt = wheel_of(archive, Path(scratch))
        ours, theirs = files_of(wheel), files_of(rebuilt)
        shutil.move(archive, folder / archive.name)
    metadata = metadata_of(wheel)
    found = [f"{archive.name} does not build the file {file}" for file in sorted(ours.keys() - theirs.keys())]
    found += [f"{archive.name} builds another {file}" for file in sorted(theirs) if ours.get(file) != theirs[file]]
    if not metadata.summary or not metadata.license_expression or metadata.description_content_type != "text/markdown":
        found.append(f"{wheel.name} lacks a summary, a license or a description in Markdown")
    print(f"check_release: {wheel.name} and {archive.name}, version {metadata.version}, {len(ours)} files")
    return found


def main() -> int:
    """Check every project; return 1 where one cannot be published."""
    folder = Path(sys.argv[1]).resolve()
    found = [problem for name, project in PROJECTS.items() for problem in problems(name, project, folder)]
    versions = {wheel.name.split("-")[1] for wheel in folder.glob("*.whl")}
    if len(versions) > 1:
        found.append(f"the wheels have several versions: {', '.join(sorted(versions))}")
    for problem in found:
        print(f"check_release: {problem}", file=sys.stderr)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
