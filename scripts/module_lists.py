"""Write the lists of files in docs/architecture.md: one line for each file, the first of its docstring or comment.

Usage: module_lists.py [--check]
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "architecture.md"
PACKAGES = ("cli", "export", "minimind", "native", "page", "runtime", "server")
SUFFIXES = (".py", ".h", ".cc")
LIST = re.compile(r"(<!-- files of (?P<folder>[\w/]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def is_package(path: Path) -> bool:
    """Whether a file only makes its folder a package."""
    return path.name == "__init__.py"


def summary(path: Path) -> str:
    """The first line of a module's docstring, or of the comment at the top of a C++ file."""
    if path.suffix != ".py":
        return path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("// ")
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    return (docstring or "").partition("\n")[0]


def table(folder: str) -> str:
    """The files of a folder, without those of folders in it."""
    modules = sorted(path for path in (ROOT / folder).glob("*.*") if path.suffix in SUFFIXES and not is_package(path))
    return "".join(["| file | |\n|---|---|\n", *(f"| `{path.name}` | {summary(path)} |\n" for path in modules)])


def main() -> int:
    """Write the page; with `--check`, return 1 where the page is out of date."""
    old = PAGE.read_text(encoding="utf-8")
    new = LIST.sub(lambda found: f"{found[1]}{table(found['folder'])}{found[3]}", old)
    listed = {found["folder"] for found in LIST.finditer(old)}
    files = (path for package in PACKAGES for path in (ROOT / package).rglob("*.*"))
    modules = (path for path in files if path.suffix in SUFFIXES and not is_package(path))
    missing = {path.parent.relative_to(ROOT).as_posix() for path in modules} - listed
    for folder in sorted(missing):
        print(f"module_lists: docs/architecture.md has no list of {folder}", file=sys.stderr)
    if "--check" not in sys.argv:
        PAGE.write_text(new, encoding="utf-8")
    elif old != new:
        print(
            "module_lists: docs/architecture.md is older than the files; run python scripts/module_lists.py",
            file=sys.stderr,
        )
    return int(bool(missing) or ("--check" in sys.argv and old != new))


if __name__ == "__main__":
    sys.exit(main())
