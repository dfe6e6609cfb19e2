"""The platforms that a bundle can be made for: what pip's tags and a requirement's markers are there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from minimind_edge.runtime.errors import UsageError

GLIBC = range(17, 36)
"""The minor versions of glibc 2 whose wheels are taken, up to that of Ubuntu 22.04 and below Debian 12's."""

MACOS = (*((10, minor) for minor in (9, 12, 13, 14, 15)), *((major, 0) for major in range(11, 16)))
"""The versions of macOS whose wheels are taken."""

PYTHONS = ("3.10", "3.11", "3.12", "3.13")


@dataclass(frozen=True)
class Platform:
    """A kind of machine.

    Attributes:
        name: The name that users give.
        markers: The values of environment markers there (PEP 508), without those of the Python version.
        tags: The platform tags of wheels that run there (PEP 425), the most general first.
        is_windows: Whether it runs Windows.
    """

    name: str
    markers: Mapping[str, str]
    tags: tuple[str, ...]

    @property
    def is_windows(self) -> bool:
        """Whether it runs Windows."""
        return self.markers["sys_platform"] == "win32"

    def environment(self, python: str) -> dict[str, str]:
        """The values of all environment markers there for CPython of a version such as `3.11`."""
        return {
            **self.markers,
            "python_version": python,
            "python_full_version": f"{python}.0",
            "implementation_name": "cpython",
            "implementation_version": f"{python}.0",
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_version": "",
            "extra": "",
        }


def _platform(name: str, os_name: str, sys_platform: str, system: str, machine: str, *tags: str) -> Platform:
    markers = {
        "os_name": os_name,
        "sys_platform": sys_platform,
        "platform_system": system,
        "platform_machine": machine,
    }
    return Platform(name, MappingProxyType(markers), tags)


def _linux(name: str, machine: str) -> Platform:
    tags = [f"manylinux_2_{minor}_{machine}" for minor in GLIBC]
    return _platform(name, "posix", "linux", "Linux", machine, f"manylinux2014_{machine}", *tags)


def _macos(name: str, machine: str) -> Platform:
    tags = [f"macosx_{major}_{minor}_{kind}" for major, minor in MACOS for kind in (machine, "universal2")]
    return _platform(name, "posix", "darwin", "Darwin", machine, *tags)


PLATFORMS = {
    platform.name: platform
    for platform in (
        _linux("linux-aarch64", "aarch64"),
        _linux("linux-x86_64", "x86_64"),
        _macos("macos-arm64", "arm64"),
        _platform("windows-amd64", "nt", "win32", "Windows", "AMD64", "win_amd64"),
    )
}


def platform_of(name: str) -> Platform:
    """The platform of a name.

    Raises:
        UsageError: There is no such platform.
    """
    if name not in PLATFORMS:
        raise UsageError(f"--platform {name!r}: expected one of {', '.join(PLATFORMS)}")
    return PLATFORMS[name]


def check_python(version: str) -> str:
    """A version of Python that a bundle can be made for.

    Raises:
        UsageError: It is another one.
    """
    if not re.fullmatch(r"3\.\d+", version) or version not in PYTHONS:
        raise UsageError(f"--python {version!r}: expected one of {', '.join(PYTHONS)}")
    return version
