"""Check import-linter's contracts (pyproject.toml) on the mirror, and so on the checkout, whatever is installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import mirror


def main() -> int:
    """Return import-linter's exit status."""
    mirror.build()
    environment = os.environ | {"PYTHONPATH": str(mirror.MIRROR)}
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    return subprocess.run(command, cwd=mirror.ROOT, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
