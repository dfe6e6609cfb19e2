"""The wheels that a project needs on another platform, with exact versions.

pip evaluates environment markers for the machine that it runs on, also where `--platform` names another one. So the
requirements are followed here, with the markers of the platform, and pip finds and downloads one wheel at a time.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.parser import HeaderParser
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name, parse_wheel_filename

from minimind_edge.runtime.errors import MissingError

from ..progress import Progress
from .platforms import Platform

MAX_WHEELS = 200
"""The most packages of a bundle: far more than it needs, and an end to requirements without one."""


@dataclass
class _Package:
    """What is known of a package that the bundle needs."""

    specifier: SpecifierSet = field(default_factory=SpecifierSet)
    extras: set[str] = field(default_factory=set)
    wheel: Path | None = None
    wanted_by: str = ""


def collect_wheels(root: Path, extras: set[str], platform: Platform, python: str, progress: Progress) -> list[Path]:
    """Download everything that a wheel requires, directly or not, into the wheel's folder.

    A package that is installed here comes in the same version, where the platform has a wheel of it.

    Args:
        root: The wheel.
        extras: The extras of the wheel whose requirements are followed.
        platform: The platform.
        python: Version of Python there, such as `3.11`.
        progress: Called with the name of the package that comes next, and the share of the known ones that are there.

    Returns:
        The paths of the downloaded wheels.

    Raises:
        MissingError: pip finds no wheel of a package for the platform, or there is no pip.
    """
    environment = platform.environment(python)
    packages: dict[str, _Package] = {}
    waiting = [(each, root.name) for each in _requirements(root, extras, environment)]
    while waiting:
        requirement, wanted_by = waiting.pop(0)
        name = canonicalize_name(requirement.name)
        package = packages.setdefault(name, _Package(wanted_by=wanted_by))
        known = package.wheel is not None and requirement.extras <= package.extras
        package.specifier &= requirement.specifier
        package.extras |= requirement.extras
        if known and package.specifier.contains(_version(package.wheel), prereleases=True):
            continue
        if len(packages) > MAX_WHEELS:
            raise MissingError(f"the bundle would need more than {MAX_WHEELS} packages: {wanted_by} asks for too many")
        progress(f"fetching {name}", len([each for each in packages.values() if each.wheel]) / (len(packages) + 1))
        if package.wheel is not None:
            package.wheel.unlink(missing_ok=True)
        package.wheel = _download(name, package, platform, python, root.parent)
        waiting += [(each, name) for each in _requirements(package.wheel, package.extras, environment)]
    return [package.wheel for package in packages.values() if package.wheel is not None]


def download_wheel(requirement: str, platform: Platform, python: str, folder: Path) -> Path:
    """Download one wheel without what it requires, and return its path.

    Raises:
        MissingError: pip finds none for the platform, or there is no pip.
    """
    parsed = Requirement(requirement)
    package = _Package(parsed.specifier, wanted_by="the bundle")
    return _download(canonicalize_name(parsed.name), package, platform, python, folder)


def _requirements(wheel: Path, extras: set[str], environment: Mapping[str, str]) -> list[Requirement]:
    """The requirements of a wheel on a platform."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(each for each in archive.namelist() if each.endswith(".dist-info/METADATA"))
        metadata = HeaderParser().parsestr(archive.read(name).decode("utf-8"))
    found = []
    for line in metadata.get_all("Requires-Dist") or []:
        try:
            requirement = Requirement(line)
        except InvalidRequirement as error:
            raise MissingError(f"{wheel.name} has a requirement that cannot be read: {line}") from error
        marker = requirement.marker
        if marker is None or any(marker.evaluate({**environment, "extra": extra}) for extra in ("", *extras)):
            found.append(requirement)
    return found


def _download(name: str, package: _Package, platform: Platform, python: str, folder: Path) -> Path:
    """Download a wheel: of the version that is installed here if it fits, otherwise of the newest one that does."""
    wanted = []
    here = _installed(name)
    if here is not None and package.specifier.contains(here, prereleases=True):
        wanted.append(f"{name}=={here}")
    wanted.append(f"{name}{package.specifier}")
    said = ""
    for requirement in wanted:
        before = set(folder.iterdir())
        said = _pip_download(requirement, platform, python, folder)
        new = sorted(set(folder.iterdir()) - before)
        if new:
            return new[0]
    for reason in re.findall(r"ERROR: (.*)", said)[-1:]:
        said = reason
    raise MissingError(
        f"pip finds no wheel of {name}{package.specifier} for {platform.name} with Python {python}, which "
        f"{package.wanted_by} needs: {said.strip()[:200]}; try another --python"
    )


def _pip_download(requirement: str, platform: Platform, python: str, folder: Path) -> str:
    """Let pip download one wheel; return what it said."""
    short = python.replace(".", "")
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
    command += ["--only-binary=:all:", "--dest", str(folder), "--python-version", python, "--implementation", "cp"]
    command += [option for abi in (f"cp{short}", "abi3", "none") for option in ("--abi", abi)]
    command += [option for tag in (*platform.tags, "any") for option in ("--platform", tag)]
    environment = {**os.environ, "PIP_REQUIRE_HASHES": "0", "PIP_CONSTRAINT": ""}
    try:
        done = subprocess.run([*command, requirement], capture_output=True, text=True, check=False, env=environment)
    except OSError as error:
        raise MissingError(f"cannot run pip, which downloads the wheels: {error}") from error
    if "No module named pip" in done.stderr:
        raise MissingError("this environment has no pip, which downloads the wheels: python -m ensurepip")
    return done.stderr


def _installed(name: str) -> str | None:
    try:
        return version(name).partition("+")[0]
    except PackageNotFoundError:
        return None


def _version(wheel: Path | None) -> str:
    assert wheel is not None
    return str(parse_wheel_filename(wheel.name)[1])
