"""What was read, inferred and assumed about a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import printable
from .adapter import MergedAdapter


@dataclass(frozen=True)
class CheckpointReport:
    """How a checkpoint became a model.

    Attributes:
        generation: `v1`, `minimind2-legacy`, `minimind2` or `minimind3`.
        files: Its weight files.
        sha256: Digest of the weight file; of several, the digest of their sorted hexadecimal digests.
        inferred: Fields of the configuration that the tensors tell.
        given: Fields that a configuration tells and the tensors don't.
        assumed: Fields that are the generation's defaults; a wrong one is put right by a configuration.
        lora: Adapters that were merged, in order.
        tokenizer: Folder with a `tokenizer.json` next to the weights, or None.
        notes: What else the user should know, a line each: code and keys that were not read, a guess that may be wrong.
        unread_code: What says that the checkpoint's model has code of its own, as `find_foreign_code` words it.
    """

    generation: str
    files: tuple[Path, ...]
    sha256: str
    inferred: dict[str, Any]
    given: dict[str, Any]
    assumed: dict[str, Any]
    lora: tuple[MergedAdapter, ...]
    tokenizer: Path | None
    notes: tuple[str, ...] = ()
    unread_code: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """The report for people, a line for each kind of fact."""
        name = str(self.files[0]) if len(self.files) == 1 else f"{self.files[0].parent} ({len(self.files)} shards)"
        lines = [f"checkpoint {name}: {self.generation}, sha256 {self.sha256[:12]}"]
        for label, fields in (("inferred", self.inferred), ("given", self.given), ("assumed", self.assumed)):
            shown = [f"{name} {_shown(fields[name])}" for name in sorted(fields) if self._matters(name)]
            if shown:
                lines.append(f"{label:<10} {', '.join(shown)}")
        lines.append(
            f"code       stock {self.generation}; of a model that you changed, give the code: --model FILE.py:CLASS"
        )
        for adapter in self.lora:
            lines.append(f"merged     {adapter.file}: LoRA of rank {adapter.rank} in {len(adapter.modules)} modules")
        lines.append(f"tokenizer  {self.tokenizer or 'none beside the checkpoint'}")
        lines += self.notes
        return [printable(line) for line in lines]

    def _matters(self, name: str) -> bool:
        """RoPE's scaling says nothing while it is off."""
        return name != "rope_scaling_parameters" or bool(self.given.get("inference_rope_scaling"))


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
