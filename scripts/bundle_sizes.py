"""The sizes of the demo's bundles for each platform, for the table in docs/bundle.md.

    python scripts/bundle_sizes.py [--check]

Writes the table, or checks that its sizes are right to 5 %: a release of a package that the runtime requires changes
them by less. Each bundle is made as a user makes it, which downloads some 500 MB in all.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from minimind_edge.export.bundle.platforms import PLATFORMS

PAGE = Path(__file__).resolve().parent.parent / "docs" / "bundle.md"
COMMAND = Path(sysconfig.get_path("scripts")) / "minimind-export"
PYTHON = "3.11"
TOLERANCE = 0.05
ROW = re.compile(r"\| `([\w-]+)` \| ([\d.]+) \| ([\d.]+) \|")


def main() -> int:
    """Make every bundle, and write or check the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 where a size is wrong")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _export("onnx", "-o", folder / "demo", "--no-verify")
        measured = {name: (bundle_size(folder, name), bundle_size(folder, name, "--serve")) for name in PLATFORMS}
    if not check:
        rows = [f"| `{name}` | {plain / 1e6:.1f} | {serve / 1e6:.1f} |" for name, (plain, serve) in measured.items()]
        text = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(re.sub(rf"({ROW.pattern}\n)+", "\n".join(rows) + "\n", text), encoding="utf-8")
        return 0
    faults = [wrong_size(name, size, serve=serve) for name, pair in measured.items() for serve, size in enumerate(pair)]
    print("\n".join(filter(None, faults)) or "the sizes of docs/bundle.md are right")
    return 1 if any(faults) else 0


def bundle_size(folder: Path, platform: str, *options: str) -> int:
    """The bytes of a bundle of the artifact `demo` in a folder."""
    command = ("bundle", folder / "demo", "-o", folder / "bundle", "--platform", platform, "--python", PYTHON)
    size: int = json.loads(_export(*command, "--force", "--json", *options))["size"]
    return size


def wrong_size(platform: str, size: int, *, serve: bool) -> str:
    """How docs/bundle.md is wrong on the size of a platform's bundle; empty where it is right.

    Args:
        platform: Name of the platform.
        size: The bundle's bytes.
        serve: Whether it was made with `--serve`.
    """
    rows = ROW.findall(PAGE.read_text(encoding="utf-8"))
    named = {name: float(with_serve if serve else plain) for name, plain, with_serve in rows}
    megabytes = size / 1e6
    if platform in named and abs(named[platform] / megabytes - 1) <= TOLERANCE:
        return ""
    told = named.get(platform, "nothing")
    return f"docs/bundle.md names {told} for {platform}{' --serve' * serve}, and it takes {megabytes:.1f} MB"


def _export(*arguments: str | Path) -> str:
    return subprocess.run([COMMAND, *arguments], stdout=subprocess.PIPE, text=True, check=True).stdout


if __name__ == "__main__":
    sys.exit(main())
