"""Make a tree that type checkers and import-linter can read: `.mirror/minimind_edge/...`, a link for each source file.

The package folders install under a namespace that has no folder of its own. `mypy -p minimind_edge` on an
editable install can check two files and report success, and some tools do not follow linked folders; all of them
follow links to files.
"""

from __future__ import annotations

import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MIRROR = ROOT / ".mirror"
PACKAGES = ("cli", "export", "minimind", "native", "page", "runtime", "server")


def build() -> list[Path]:
    """Make the mirror anew and return its Python files, sorted."""
    shutil.rmtree(MIRROR, ignore_errors=True)
    links = []
    for package in PACKAGES:
        for source in sorted((ROOT / package).rglob("*")):
            if source.suffix == ".py" or source.name == "py.typed":
                link = MIRROR / "minimind_edge" / source.relative_to(ROOT)
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(source)
                links.append(link)
    return [link for link in links if link.suffix == ".py"]
