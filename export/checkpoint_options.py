"""The options by which a checkpoint is read, the same for every command that takes one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class CheckpointOptions:
    """How to read a checkpoint; the fields have the names of `ExportRequest`'s.

    Attributes:
        moe: Require a mixture of experts; among the bundled demos, take that one.
        config: A JSON file that overrides what the checkpoint's tensors say.
        lora: LoRA adapter files to merge, in order.
        tokenizer: A `tokenizer.json` or its folder; None looks next to the checkpoint.
        yarn: Turn YaRN on or off; None keeps the setting of the checkpoint's config.
    """

    moe: bool = False
    config: Path | None = None
    lora: tuple[Path, ...] = ()
    tokenizer: Path | None = None
    yarn: bool | None = None

    def given(self) -> tuple[str, ...]:
        """The command-line names of the options that differ from their defaults, for errors."""
        names = {
            "--moe": self.moe,
            "--config": self.config is not None,
            "--lora": bool(self.lora),
            "--tokenizer": self.tokenizer is not None,
            "--yarn": self.yarn is True,
            "--no-yarn": self.yarn is False,
        }
        return tuple(name for name, is_given in names.items() if is_given)
