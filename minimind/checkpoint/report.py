"""The report on a checkpoint: what was read, inferred and assumed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import printable
from .adapter import MergedAdapter


@dataclass(frozen=True)
class CheckpointReport:
    """The report on how a checkpoint was read.

    Attributes:
        generation: `v1`, `minimind2-legacy`, `minimind2` or `minimind3`.
        files: Weight files of the checkpoint.
        sha256: SHA-256 of the weight file; of several, that of their sorted hexadecimal digests.
        inferred: Fields of the configuration that the tensors show.
        given: Fields that only a configuration gives.
        assumed: Fields that are the generation's defaults; the user can correct them by a configuration.
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
        """The report as text, one line for each kind of fact."""
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
        lines.append(f"tokenizer  {self.tokenizer or 'none next to the checkpoint'}")
        lines += self.notes
        return [printable(line) for line in lines]

    def _matters(self, name: str) -> bool:
        """Whether a field is shown: parameters of RoPE scaling only while it is on."""
        return name != "rope_scaling_parameters" or bool(self.given.get("inference_rope_scaling"))


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
