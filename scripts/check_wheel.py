"""Fail when a package, a module or a data file of the checkout is missing from the built wheels.

A subfolder that pyproject.toml does not list imports in an editable install and is missing from the wheel; nothing else
would notice before a user does.

Usage: check_wheel.py DIST_DIR
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("cli", "export", "minimind", "page", "runtime", "server")
PLUGIN = ROOT / "interop" / "optimum" / "plugin"
EXPORT = ROOT / "export"
ON_DEVICES = ("artifact", "inspection")
"""The folders of `export` in the wheel for a device; the others are in that for the machine that exports."""

NOT_SHIPPED = {".pyc", ".toml"}


def expected_files() -> dict[str, set[str]]:
    """The files that each wheel has to hold: all below the package folders, and the plugin of `optimum-cli`.

    What an export takes and a device has no use for, the demo checkpoints included, has a wheel of its own.
    """
    files = {
        path
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix not in NOT_SHIPPED and "__pycache__" not in path.parts
    }
    rooms = {path.name for path in EXPORT.iterdir() if path.is_dir()} - {*ON_DEVICES, "__pycache__"}
    exporting = {path for path in files if any(path.is_relative_to(EXPORT / room) for room in rooms)}
    plugin = {f"optimum/commands/register/{path.name}" for path in PLUGIN.glob("*.py")}
    return {"minimind_edge": plugin | names(files - exporting), "minimind_edge_export": names(exporting)}


def names(files: set[Path]) -> set[str]:
    """The names that files of the checkout have in a wheel."""
    return {f"minimind_edge/{path.relative_to(ROOT).as_posix()}" for path in files}


def check(distribution: str, expected: set[str], folder: Path) -> bool:
    """Whether the one wheel of that name holds the expected files; missing and surplus files are printed."""
    wheels = sorted(folder.glob(f"{distribution}-*.whl"))
    if len(wheels) != 1:
        print(f"check_wheel: expected one wheel {distribution} in {folder}, found {len(wheels)}", file=sys.stderr)
        return False
    with zipfile.ZipFile(wheels[0]) as archive:
        shipped = {name for name in archive.namelist() if name.startswith(("minimind_edge/", "optimum/"))}
    for name in sorted(expected - shipped):
        print(
            f"check_wheel: {name} is missing from {wheels[0].name}: list its package or data in pyproject.toml",
            file=sys.stderr,
        )
    for name in sorted(shipped - expected):
        print(f"check_wheel: {name} is in {wheels[0].name} and should not be", file=sys.stderr)
    print(f"check_wheel: {wheels[0].name} holds {len(shipped)} files, {wheels[0].stat().st_size / 1e6:.1f} MB")
    return shipped == expected


def main() -> int:
    """Compare the wheels in the given folder with the checkout; return 0 when they hold the same files."""
    results = [check(name, files, Path(sys.argv[1])) for name, files in expected_files().items()]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
