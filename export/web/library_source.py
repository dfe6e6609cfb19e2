"""Finding the JavaScript libraries of a site: in a `node_modules` folder, or from npm, whose download is kept."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from minimind_edge.runtime.errors import ArtifactError, MissingError

from ..artifact.json_file import read_json
from ..artifact.staging import staged_folder, temporary_folder
from .libraries import LIBRARIES, Library

NODE_MODULES = "node_modules"

PACKED_FOLDER = "package"
"""The top folder of every npm archive."""

NPM_SECONDS = 600
"""The most seconds that npm may take for one package."""


def find_libraries(node_modules: Path | None, tell: Callable[[str], None]) -> dict[Library, Path]:
    """The folder of every library; those that are not on this machine are downloaded by npm.

    Args:
        node_modules: The only folder to look in; None for `node_modules` in the current folder, then earlier downloads.
        tell: Called with the name of a step that takes long.

    Raises:
        MissingError: A library is missing or has another version, and npm cannot download it.
        ArtifactError: A download differs from the published package.
    """
    if node_modules is not None:
        folder = node_modules / NODE_MODULES if (node_modules / NODE_MODULES).is_dir() else node_modules
        return {library: _required(library, folder) for library in LIBRARIES}
    return {library: _found(library) or _fetched(library, tell) for library in LIBRARIES}


def cache_folder() -> Path:
    """The folder that keeps npm's downloads for the next site."""
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    return (Path(base) if base else Path.home() / ".cache") / "minimind-edge" / "web"


def _required(library: Library, node_modules: Path) -> Path:
    folder = node_modules / library.name
    if _is_whole(library, folder):
        return folder
    found = _version(folder)
    state = f"has version {found}" if found not in (None, library.version) else "is not there, or not whole"
    raise MissingError(
        f"{library.name} in {node_modules} {state}: expected {library.version}; run {_install_command()} next to it"
    )


def _found(library: Library) -> Path | None:
    """A folder that holds the library in the right version, None if there is none."""
    places = (Path(NODE_MODULES, library.name), _cached(library))
    return next((folder for folder in places if _is_whole(library, folder)), None)


def _is_whole(library: Library, folder: Path) -> bool:
    return _version(folder) == library.version and all((folder / file).is_file() for file in library.files)


def _version(folder: Path) -> str | None:
    try:
        version = read_json(folder / "package.json").get("version")
    except (OSError, ArtifactError):
        return None
    return version if isinstance(version, str) else None


def _cached(library: Library) -> Path:
    return cache_folder() / library.spec.replace("/", "+")


def _fetched(library: Library, tell: Callable[[str], None]) -> Path:
    """Download the library by npm, and keep the files that a site needs."""
    npm = shutil.which("npm")
    if npm is None:
        raise MissingError(
            f"the page needs {library.spec}, and npm is not installed: install Node.js, or run "
            f"{_install_command()} on any machine and name the folder with --node-modules"
        )
    tell(f"fetching {library.spec} by npm")
    with temporary_folder() as scratch:
        archive = _pack(npm, library, scratch)
        check_integrity(archive, library)
        with staged_folder(_cached(library)) as stage:
            unpack(archive, library, stage)
    return _cached(library)


def _pack(npm: str, library: Library, scratch: Path) -> Path:
    command = [npm, "pack", library.spec, "--silent", "--ignore-scripts", "--pack-destination", str(scratch)]
    try:
        done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, timeout=NPM_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MissingError(f"npm could not download {library.spec}: {error}") from error
    archives = sorted(scratch.glob("*.tgz"))
    if done.returncode != 0 or len(archives) != 1:
        reason = (done.stderr or done.stdout).strip()[-300:] or f"exit code {done.returncode}"
        raise MissingError(
            f"npm could not download {library.spec}: {reason}; or name a folder that has it with --node-modules"
        )
    return archives[0]


def check_integrity(archive: Path, library: Library) -> None:
    """Check that an archive is the one that was published.

    Raises:
        ArtifactError: The archive's digest differs.
    """
    found = "sha512-" + base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if found != library.integrity:
        raise ArtifactError(f"{library.spec} from npm has digest {found}, expected {library.integrity}; try again")


def unpack(archive: Path, library: Library, folder: Path) -> None:
    """Extract what a site needs from an npm archive: the library's files, its package.json and its license.

    Raises:
        ArtifactError: A file is missing in the archive.
    """
    with tarfile.open(archive) as content:
        members = {member.name: member for member in content.getmembers() if member.isfile()}
        for file in (*library.files, PurePosixPath("package.json"), PurePosixPath("LICENSE")):
            member = members.get(f"{PACKED_FOLDER}/{file}")
            source = None if member is None else content.extractfile(member)
            if source is not None:
                place = folder / file
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(source.read())
            elif file in library.files:
                raise ArtifactError(f"{library.spec} has no {file}")


def _install_command() -> str:
    return f"`npm install {' '.join(library.spec for library in LIBRARIES)}`"
