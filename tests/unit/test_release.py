"""The release script: what it writes, and when it writes nothing."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHANGELOG = "# Changelog\n\n## Unreleased\n\n### Added\n- A server.\n\n## 0.1.0 - 2026-01-02\n- All of it.\n"


@pytest.fixture
def checkout(tmp_path) -> Path:
    for name in ("pyproject.toml", "export/pyproject.toml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(
            '[project]\nname = "x"\nversion = "0.1.9"\nexport = ["minimind-edge-export==0.1.9"]\n'
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
    for name in ("pyproject.toml", "export/pyproject.toml"):
        lines = (checkout / name).read_text().splitlines()
        assert lines == ["[project]", 'name = "x"', 'version = "0.2.0"', 'export = ["minimind-edge-export==0.2.0"]']
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
    projects = [ROOT / "pyproject.toml", ROOT / "export" / "pyproject.toml"]
    found = [re.findall(r'^version = "(.*)"$', path.read_text(), re.MULTILINE) for path in projects]
    assert found[0] == found[1] and len(found[0]) == 1
    assert f'"minimind-edge-export=={found[0][0]}"' in projects[0].read_text()
