"""Inspection of a checkpoint: its generation, its architecture, and where each of its fields came from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..artifact.architecture import describe_architecture, kv_values_per_token
from ..artifact.tokenizer_files import tokenizer_beside
from .table import Inspection, Section, architecture_section, byte_count

if TYPE_CHECKING:
    from minimind_edge.minimind import MiniMindConfig
    from minimind_edge.minimind.checkpoint import CheckpointReport

CACHE_WIDTHS = {"float32": 4, "float16": 2}
"""The bytes of one number in each kind of KV cache that a graph can have."""


@dataclass(frozen=True)
class CheckpointInspection(Inspection):
    """A checkpoint that was read.

    Attributes:
        path: The file or folder that was named.
        report: How the checkpoint became a model.
        config: The model's configuration.
        size: The size of the weight files in bytes.
        tokenizer: The `tokenizer.json` that an export would take, None where there is none.
    """

    path: Path
    report: CheckpointReport
    config: MiniMindConfig
    size: int
    tokenizer: Path | None

    @classmethod
    def read(cls, path: Path) -> CheckpointInspection:
        """Read a checkpoint of any form.

        Raises:
            MiniMindError: It is not a MiniMind checkpoint, or cannot be read.
        """
        from minimind_edge.minimind.checkpoint import read_checkpoint

        loaded = read_checkpoint(path)
        size = sum(file.stat().st_size for file in loaded.report.files)
        return cls(path, loaded.report, loaded.model.config, size, tokenizer_beside(path))

    def to_json(self) -> dict[str, Any]:
        """See `Inspection.to_json`."""
        report = self.report
        return {
            "kind": "checkpoint",
            "path": str(self.path),
            "generation": report.generation,
            "files": [str(file) for file in report.files],
            "bytes": self.size,
            "sha256": report.sha256,
            "architecture": describe_architecture(self.config),
            "kv_bytes_per_token": self._kv_bytes(),
            "inferred": report.inferred,
            "given": report.given,
            "assumed": report.assumed,
            "lora": [{"file": str(adapter.file), "rank": adapter.rank} for adapter in report.lora],
            "tokenizer": None if self.tokenizer is None else str(self.tokenizer.parent),
            "notes": list(report.notes),
        }

    def sections(self) -> tuple[Section, ...]:
        """See `Inspection.sections`."""
        report = self.report
        summary = [
            ("path", str(self.path)),
            ("generation", report.generation),
            ("size", byte_count(self.size)),
            ("sha256", report.sha256),
            ("tokenizer", str(self.tokenizer or "none next to the checkpoint")),
            *((f"kv cache, {dtype}", f"{count:,} bytes per token") for dtype, count in self._kv_bytes().items()),
        ]
        origins = [("inferred from the tensors", report.inferred), ("given by a config", report.given)]
        origins.append(("assumed (name a config to change them)", report.assumed))
        return (
            Section("checkpoint", tuple(summary)),
            architecture_section(describe_architecture(self.config)),
            *(
                Section(title, tuple((name, str(fields[name])) for name in sorted(fields)))
                for title, fields in origins
                if fields
            ),
            *([Section("notes", tuple(("", note) for note in report.notes))] if report.notes else []),
        )

    def _kv_bytes(self) -> dict[str, int]:
        return {dtype: kv_values_per_token(self.config) * width for dtype, width in CACHE_WIDTHS.items()}
