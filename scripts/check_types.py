"""Run mypy --strict over the mirror of the packages, and check that it read every file."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import mirror


def main() -> int:
    """Return mypy's exit status, or 1 when it checked another number of files than there are."""
    files = mirror.build()
    command = [sys.executable, "-m", "mypy", "--explicit-package-bases", str(mirror.MIRROR / "minimind_edge")]
    environment = os.environ | {"MYPYPATH": str(mirror.MIRROR)}
    result = subprocess.run(command, cwd=mirror.ROOT, env=environment, capture_output=True, text=True, check=False)
    sys.stderr.write(result.stderr)
    print(result.stdout, end="")
    summary = re.search(r"(\d+) source files?\)?$", result.stdout.strip())
    checked = int(summary[1]) if summary else 0
    if checked != len(files):
        print(f"check_types: mypy checked {checked} files, expected {len(files)}", file=sys.stderr)
        return 1
    return result.returncode


if __name__ == "__main__":
    sys.exit(main())
