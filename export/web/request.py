"""The request for a site, and its result."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..request import ExportRequest


@dataclass(frozen=True)
class SiteRequest:
    """The options of a site.

    Attributes:
        export: The checkpoint and how to export it; its checkpoint may also be an artifact folder of target `portable`,
            which is copied. Its output is the site's folder, None for `site`.
        node_modules: A `node_modules` folder with the libraries; None looks for one here, then asks npm.
        precision: Precision of the weights; None for an artifact's default graph, and for `export.precision` otherwise.
        title: Title of the page; None for the model's name.
    """

    export: ExportRequest = field(default_factory=lambda: ExportRequest(target="portable"))
    node_modules: Path | None = None
    precision: str | None = None
    title: str | None = None


@dataclass(frozen=True)
class SiteResult:
    """The site that was written.

    Attributes:
        folder: The site's folder.
        size: Size of all its files in bytes.
        download: Bytes that a visitor's browser loads to run the model by WebAssembly.
        notes: Lines for the user.
        manifest: The manifest of the model on the site.
    """

    folder: Path
    size: int
    download: int
    notes: tuple[str, ...]
    manifest: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """A JSON object for programs."""
        return {
            "site": str(self.folder),
            "bytes": self.size,
            "download_bytes": self.download,
            "notes": list(self.notes),
            "manifest": self.manifest,
        }
