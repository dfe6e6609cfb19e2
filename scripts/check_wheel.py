"""Fail when a package, a module or a data file of the checkout is missing from the built wheel.

A subfolder that pyproject.toml does not list imports in an editable install and is missing from the wheel; nothing else
would notice before a user does.

Usage: check_wheel.py DIST_DIR
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("cli", "export", "minimind", "runtime")
PLUGIN = ROOT / "interop" / "optimum" / "plugin"
NOT_SHIPPED = {".pyc"}


def expected_files() -> set[str]:
    """The wheel's names of every file below the four package folders, and of what `optimum-cli` looks for."""
    plugin = {f"optimum/commands/register/{path.name}" for path in PLUGIN.glob("*.py")}
    return plugin | {
        f"minimind_edge/{path.relative_to(ROOT).as_posix()}"
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix not in NOT_SHIPPED and "__pycache__" not in path.parts
    }


def main() -> int:
    """Compare the one wheel in the folder given with the checkout; 0 when they hold the same files."""
    wheels = sorted(Path(sys.argv[1]).glob("minimind_edge-*.whl"))
    if len(wheels) != 1:
        print(f"check_wheel: expected one wheel in {sys.argv[1]}, found {len(wheels)}", file=sys.stderr)
        return 1
    with zipfile.ZipFile(wheels[0]) as archive:
        shipped = {name for name in archive.namelist() if name.startswith(("minimind_edge/", "optimum/"))}
    expected = expected_files()
    for name in sorted(expected - shipped):
        print(
            f"check_wheel: {name} is missing from the wheel: list its package or data in pyproject.toml",
            file=sys.stderr,
        )
    for name in sorted(shipped - expected):
        print(f"check_wheel: {name} is in the wheel and not in the checkout", file=sys.stderr)
    print(f"check_wheel: {wheels[0].name} holds {len(shipped)} files, {wheels[0].stat().st_size / 1e6:.1f} MB")
    return 0 if shipped == expected else 1


if __name__ == "__main__":
    sys.exit(main())
