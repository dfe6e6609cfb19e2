"""From an artifact to a folder that installs and runs it on a device without network."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minimind_edge.runtime.artifact.folder import (
    CHAT_TEMPLATE,
    NAMED_TEMPLATES,
    TOKENIZER,
    TOKENIZER_CONFIGS,
    Artifact,
)
from minimind_edge.runtime.artifact.manifest import MANIFEST
from minimind_edge.runtime.artifact.paths import copy_member, require_member
from minimind_edge.runtime.errors import ArtifactError, UsageError

from ..artifact.json_file import write_json
from ..artifact.manifest import file_sha256, is_artifact, read_manifest
from ..artifact.staging import locked, staged_files, staged_folder
from ..progress import Progress, silent
from .own_wheel import pack_own_wheel
from .platforms import Platform, check_python, platform_of
from .wheels import collect_wheels, download_wheel

DEVICE = Path(__file__).parent / "device"
FACTS = "bundle.json"
CONFIGS = ("config.json", "generation_config.json", "genai_config.json", "README.md")
FIRST_WORDS = '"Who are you?"'
FIRST_IDS = "--ids 1,2,3"
"""What the installer and the README say to try, for a model with a tokenizer and for one without."""

WHEELS_FETCHED = 0.9
"""The share of the time after which the wheels are there."""


@dataclass(frozen=True)
class BundleRequest:
    """What a bundle is to hold, and where it goes.

    Attributes:
        artifact: The artifact folder.
        output: The bundle's folder, or its `.zip`.
        platform: Name of the device's platform, one of `PLATFORMS`.
        python: Version of the device's Python, such as `3.11`.
        serve: Whether the device is to serve the model over HTTP.
        zipped: Whether the bundle is one `.zip` file.
        force: Replace a bundle that exists already.
    """

    artifact: Path
    output: Path
    platform: str
    python: str = "3.11"
    serve: bool = False
    zipped: bool = False
    force: bool = False


@dataclass(frozen=True)
class BundleResult:
    """A bundle that was written.

    Attributes:
        path: The folder or the `.zip`.
        size: Its bytes.
        wheels: The names of the wheels.
        sha256: SHA-256 of `bundle.json`, which has those of all other files.
        platform: Name of the platform.
        python: Version of Python.
    """

    path: Path
    size: int
    wheels: tuple[str, ...]
    sha256: str
    platform: str
    python: str

    def to_json(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        return {**vars(self), "path": str(self.path), "wheels": list(self.wheels)}


def write_bundle(request: BundleRequest, progress: Progress | None = None) -> BundleResult:
    """Write a bundle; where a step fails, nothing is written.

    Args:
        request: What it is to hold.
        progress: Called with a stage's name and the share of the whole that is done, 0 to 1.

    Raises:
        ArtifactError: The artifact is broken, or holds no graph that a wheel's runtime runs.
        BusyError: Another process writes to the place.
        MissingError: pip finds no wheel for the platform, or this project is not installed from its wheel.
        OSError: The disk is full or cannot be written.
        UsageError: An option is out of its range, or something else is at the place.
    """
    tell = progress or silent
    platform, python = platform_of(request.platform), check_python(request.python)
    Artifact.open(request.artifact)
    place = request.output
    if request.zipped and place.suffix != ".zip":
        place = place.with_name(f"{place.name}.zip")
    _check_destination(place, request.force)
    if not request.zipped:
        with locked(place), staged_folder(place) as stage:
            wheels = _fill(stage, request, platform, python, tell)
            size, sha256 = _size(stage), file_sha256(stage / FACTS)
    else:
        with staged_files(place) as stage:
            folder = stage / "bundle"
            folder.mkdir()
            wheels = _fill(folder, request, platform, python, tell)
            sha256 = file_sha256(folder / FACTS)
            _zip(folder, stage / place.name, place.stem)
            shutil.rmtree(folder)
            size = (stage / place.name).stat().st_size
    tell("done", 1.0)
    return BundleResult(place, size, tuple(sorted(each.name for each in wheels)), sha256, platform.name, python)


def _check_destination(place: Path, force: bool) -> None:
    """See that a bundle may be written to a place.

    Raises:
        UsageError: Something else is there, or a bundle and `--force` is not given.
    """
    if not place.exists() or (place.is_dir() and not any(place.iterdir())):
        return
    if not ((place / FACTS).is_file() or place.suffix == ".zip"):
        raise UsageError(f"{place} exists and is no bundle; name another place with -o")
    if not force:
        raise UsageError(f"{place} exists already; replace it with --force or name another place with -o")


def _fill(folder: Path, request: BundleRequest, platform: Platform, python: str, tell: Progress) -> list[Path]:
    """Put everything into an empty folder, and return the wheels."""
    tell("copying the artifact", 0.0)
    _copy_artifact(request.artifact, folder / "artifact")
    wheels_folder = folder / "wheels"
    wheels_folder.mkdir()
    own = pack_own_wheel(wheels_folder)
    pip = download_wheel("pip", platform, python, wheels_folder)
    extras = {"serve"} if request.serve else set()
    fetched: Progress = lambda stage, done: tell(stage, done * WHEELS_FETCHED)  # noqa: E731
    wheels = [own, *collect_wheels(own, extras, platform, python, fetched)]
    _write_requirements(folder / "requirements.txt", wheels)
    _put_scripts(folder, request, platform, python)
    tell("writing the list of files", WHEELS_FETCHED)
    facts = {
        "system": platform.markers["platform_system"],
        "machine": platform.markers["platform_machine"],
        "python": python,
        "first_words": first_words(request.artifact),
        "files": {name: file_sha256(folder / name) for name in sorted(_names(folder))},
    }
    write_json(folder / FACTS, facts)
    return [*wheels, pip]


def _copy_artifact(source: Path, target: Path) -> None:
    """Copy the files that an artifact names, and no others.

    Raises:
        ArtifactError: It is no folder of graphs, or lacks a file that it names.
    """
    if not is_artifact(source):
        raise ArtifactError(f"{source} is no artifact folder with a {MANIFEST}; export a checkpoint first")
    manifest = read_manifest(source)
    for graph in manifest.graphs:
        require_member(source, graph.file, MANIFEST)
        for name in (graph.file, f"{graph.file}_data"):
            copy_member(source, name, target / name)
    templates = [f"{NAMED_TEMPLATES}/{path.name}" for path in sorted((source / NAMED_TEMPLATES).glob("*.jinja"))]
    for name in (MANIFEST, TOKENIZER, *TOKENIZER_CONFIGS, CHAT_TEMPLATE, *CONFIGS, *templates):
        copy_member(source, name, target / name)


def first_words(artifact: Path) -> str:
    """The arguments of `minimind-run` to try first: a model without a tokenizer takes only token ids."""
    return FIRST_IDS if Artifact.open(artifact).tokenizer is None else FIRST_WORDS


def _write_requirements(path: Path, wheels: list[Path]) -> None:
    """Write the exact versions and hashes that pip installs."""
    lines = []
    for wheel in sorted(wheels):
        name, version = wheel.name.split("-")[:2]
        lines.append(f"{name.replace('_', '-')}=={version} --hash=sha256:{file_sha256(wheel)}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _put_scripts(folder: Path, request: BundleRequest, platform: Platform, python: str) -> None:
    """Put the scripts and the README of the platform into the bundle."""
    ending = "cmd" if platform.is_windows else "sh"
    names = ["install.py", f"run.{ending}"]
    if request.serve:
        names.append(f"serve.{ending}")
        names += ["minimind-serve.service.in"] if platform.name.startswith("linux") else []
    for name in names:
        shutil.copyfile(DEVICE / name, folder / name)
        (folder / name).chmod(0o755 if name.endswith(".sh") else 0o644)
    start = "run.cmd" if platform.is_windows else "./run.sh"
    values = {
        "NAME": request.artifact.resolve().name,
        "PLATFORM": platform.name,
        "SYSTEM": platform.markers["platform_system"],
        "MACHINE": platform.markers["platform_machine"],
        "PYTHON": python,
        "INSTALL": f"{'py' if platform.is_windows else 'python3'} install.py",
        "RUN": f"{start} {first_words(request.artifact)}",
        "SERVE": _serving(platform) if request.serve else "",
    }
    text = (DEVICE / "README.md").read_text(encoding="utf-8")
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    (folder / "README.md").write_text(text.rstrip() + "\n", encoding="utf-8")


def _serving(platform: Platform) -> str:
    """The README's section on the server."""
    start = "serve.cmd" if platform.is_windows else "./serve.sh"
    lines = ["", "## As a server", "", f"`{start}` serves OpenAI's HTTP interface at http://127.0.0.1:8000."]
    if platform.name.startswith("linux"):
        lines += ["To start it with the machine, after `install.py`, and with this folder where any user may read it:"]
        lines += ["", "```sh", "sudo cp minimind-serve.service /etc/systemd/system/"]
        lines += ["sudo systemctl enable --now minimind-serve", "```"]
    return "\n".join(lines)


def _zip(folder: Path, path: Path, top: str) -> None:
    """Write a folder's files into a `.zip`, under one folder, with their permissions."""
    with zipfile.ZipFile(path, "w") as archive:
        for name in sorted(_names(folder)):
            info = zipfile.ZipInfo.from_file(folder / name, f"{top}/{name}")
            is_packed = name.endswith(".whl")
            info.compress_type = zipfile.ZIP_STORED if is_packed else zipfile.ZIP_DEFLATED
            with (folder / name).open("rb") as source, archive.open(info, "w") as target:
                shutil.copyfileobj(source, target)


def _names(folder: Path) -> Iterator[str]:
    """The names of all files of a folder, relative to it, with slashes."""
    return (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
