"""The release script: what it writes, and when it writes nothing."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECTS = ("pyproject.toml", "export/pyproject.toml", "native/pyproject.toml")
CHANGELOG = "# Changelog\n\n## Unreleased\n\n### Added\n- A server.\n\n## 0.1.0 - 2026-01-02\n- All of it.\n"


@pytest.fixture
def checkout(tmp_path) -> Path:
    for name in PROJECTS:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(
            '[project]\nname = "x"\nversion = "0.1.9"\nexport = ["minimind-edge-export==0.1.9"]\n'
            'native = ["minimind-edge-native==0.1.9"]\n'
        )
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    return tmp_path


def release(checkout: Path, version: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "release.py"), version, "--root", str(checkout)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_release_dates_the_news_and_sets_every_version(checkout):
    result = release(checkout, "0.2.0")
    assert result.returncode == 0, result.stderr
    assert "git tag v0.2.0" in result.stdout
    for name in PROJECTS:
        lines = (checkout / name).read_text().splitlines()
        assert lines[:3] == ["[project]", 'name = "x"', 'version = "0.2.0"']
        assert lines[3:] == ['export = ["minimind-edge-export==0.2.0"]', 'native = ["minimind-edge-native==0.2.0"]']
    lines = (checkout / "CHANGELOG.md").read_text().splitlines()
    assert lines[2] == "## Unreleased" and lines[4].startswith("## 0.2.0 - 20")
    assert lines[6:8] == ["### Added", "- A server."]
    assert lines[9] == "## 0.1.0 - 2026-01-02"


@pytest.mark.parametrize("version", ["0.1.9", "0.1.8", "0.2", "v0.2.0", "0.2.0rc1"])
def test_a_version_that_is_no_later_one_is_refused(checkout, version):
    result = release(checkout, version)
    assert result.returncode == 2 and version in result.stderr
    assert (checkout / "CHANGELOG.md").read_text() == CHANGELOG


def test_a_release_without_news_is_refused(checkout):
    (checkout / "CHANGELOG.md").write_text(CHANGELOG.replace("### Added\n- A server.\n\n", ""))
    result = release(checkout, "0.2.0")
    assert result.returncode == 2 and "no news" in result.stderr
    assert '"0.1.9"' in (checkout / "pyproject.toml").read_text()


def test_the_version_has_one_place():
    import importlib.metadata

    import minimind_edge.runtime

    assert minimind_edge.runtime.__version__ == importlib.metadata.version("minimind-edge")
    found = [re.findall(r'^version = "(.*)"$', (ROOT / name).read_text(), re.MULTILINE) for name in PROJECTS]
    (version,) = found[0]
    assert found == [[version]] * 3
    extras = (ROOT / "pyproject.toml").read_text()
    assert all(f'"minimind-edge-{name}=={version}"' in extras for name in ("export", "native"))
