"""What a site is asked for, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..request import ExportRequest


@dataclass(frozen=True)
class SiteRequest:
    """What to put on a site, and where.

    Attributes:
        export: The checkpoint and how to export it; its checkpoint may also be an artifact folder of target `portable`,
            which is taken as it is. Its output is the site's folder, `site` where it is None.
        node_modules: A `node_modules` folder with the libraries; None looks for one here, then asks npm.
    """

    export: ExportRequest = field(default_factory=lambda: ExportRequest(target="portable"))
    node_modules: Path | None = None


@dataclass(frozen=True)
class SiteResult:
    """What was written.

    Attributes:
        folder: The site.
        size: Of all its files, in bytes.
        download: What a visitor's browser loads to run the model by WebAssembly, in bytes.
        notes: Lines for people.
        manifest: Of the model on it.
    """

    folder: Path
    size: int
    download: int
    notes: tuple[str, ...]
    manifest: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        return {
            "site": str(self.folder),
            "bytes": self.size,
            "download_bytes": self.download,
            "notes": list(self.notes),
            "manifest": self.manifest,
        }
