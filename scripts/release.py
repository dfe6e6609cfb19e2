"""Prepare a release: check that the changelog has news, date its section, and set the version in every pyproject.toml.

    python scripts/release.py 0.3.0

Writes nothing where a check fails. Committing, tagging and pushing are left to the maintainer; it prints the commands.
"""

from __future__ import annotations

import argparse
import datetime
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UNRELEASED = "## Unreleased\n"
FILES = ("pyproject.toml", "export/pyproject.toml", "native/pyproject.toml")
"""The files that hold a version: the project's, and those of the packages that its extras ask for."""

SAME_VERSION = re.compile(r'("minimind-edge-(?:export|native)==)[\d.]+(?=")')
"""The version which the extras `export` and `native` ask for: a release that updates one package updates all."""


def main() -> int:
    """Write the release's version and section, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("version", help="the new version, X.Y.Z")
    parser.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    try:
        texts = prepared(arguments.root, arguments.version, datetime.date.today().isoformat())
    except ValueError as error:
        print(f"release: {error}", file=sys.stderr)
        return 2
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    tag = f"v{arguments.version}"
    print(f"git commit -am 'Release {arguments.version}' && git tag {tag} && git push --follow-tags origin HEAD {tag}")
    return 0


def prepared(root: Path, version: str, today: str) -> dict[Path, str]:
    """The new contents of the files that a release changes.

    Raises:
        ValueError: The version is no later one, or the changelog has no news.
    """
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise ValueError(f"{version!r} is no version of the form X.Y.Z")
    texts = {root / name: _with_version((root / name).read_text(encoding="utf-8"), version) for name in FILES}
    changelog = root / "CHANGELOG.md"
    texts[changelog] = _dated(changelog.read_text(encoding="utf-8"), version, today)
    return texts


def _with_version(text: str, version: str) -> str:
    found = re.search(r'^version = "(\d+)\.(\d+)\.(\d+)"$', text, re.MULTILINE)
    if found is None:
        raise ValueError("a pyproject.toml has no version of the form X.Y.Z")
    if tuple(map(int, found.groups())) >= tuple(map(int, version.split("."))):
        raise ValueError(f"{version} is no later version than {'.'.join(found.groups())}")
    text = text[: found.start()] + f'version = "{version}"' + text[found.end() :]
    return SAME_VERSION.sub(rf"\g<1>{version}", text)


def _dated(changelog: str, version: str, today: str) -> str:
    """The changelog with its unreleased part under the version's name, and an empty unreleased part before it."""
    before, found, after = changelog.partition(UNRELEASED)
    news = after.partition("\n## ")[0]
    if not found or "\n- " not in news:
        raise ValueError("CHANGELOG.md has no news under Unreleased")
    return f"{before}{UNRELEASED}\n## {version} - {today}\n{after}"


if __name__ == "__main__":
    sys.exit(main())
