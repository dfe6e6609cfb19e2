"""This project's own wheel, packed from the files that pip installed."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import zipfile
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from minimind_edge.runtime.errors import MissingError

NAME = "minimind-edge"

INSTALLERS_OWN = {"INSTALLER", "REQUESTED", "RECORD", "direct_url.json"}
"""The files of a `.dist-info` folder that pip adds when it installs."""

EPOCH = (1980, 1, 1, 0, 0, 0)
"""The time of each member, so that the same files make the same wheel."""


def pack_own_wheel(folder: Path) -> Path:
    """Write the wheel of the installed minimind-edge into a folder, and return its path.

    Raises:
        MissingError: It is not installed from a wheel, or a file of it has changed since.
    """
    try:
        installed = distribution(NAME)
    except PackageNotFoundError as error:
        raise MissingError(f"{NAME} is not installed: install its wheel, then make the bundle") from error
    files = _files(installed)
    if not any(name.startswith("minimind_edge/runtime/") for name in files):
        raise MissingError(f"{NAME} is installed editable: a bundle needs its wheel (`make setup`, or pip install it)")
    path = folder / f"{NAME.replace('-', '_')}-{installed.version}-py3-none-any.whl"
    record = io.StringIO()
    rows = csv.writer(record, lineterminator="\n")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, content in sorted(files.items()):
            _write(wheel, name, content)
            rows.writerow((name, f"sha256={_digest(content)}", len(content)))
        name = f"{_metadata_folder(files)}/RECORD"
        rows.writerow((name, "", ""))
        _write(wheel, name, record.getvalue().encode())
    return path


def _files(installed: Distribution) -> dict[str, bytes]:
    """The contents of the wheel's own files by their names, without scripts and bytecode."""
    found = {}
    for file in installed.files or []:
        is_own = file.parts[0] not in ("..", "/") and file.suffix != ".pyc" and file.name not in INSTALLERS_OWN
        if not is_own:
            continue
        try:
            content = Path(str(file.locate())).read_bytes()
        except OSError as error:
            raise MissingError(f"{NAME} lacks its file {file}: install its wheel again") from error
        if file.hash is not None and file.hash.value != _digest(content):
            raise MissingError(f"the file {file} of {NAME} has been changed: install its wheel again")
        found[file.as_posix()] = content
    return found


def _metadata_folder(files: dict[str, bytes]) -> str:
    return next(name.partition("/")[0] for name in files if name.endswith(".dist-info/METADATA"))


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


def _write(wheel: zipfile.ZipFile, name: str, content: bytes) -> None:
    wheel.writestr(zipfile.ZipInfo(name, EPOCH), content, zipfile.ZIP_DEFLATED)
