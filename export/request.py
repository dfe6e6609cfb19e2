"""The request of an export, and its result."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .quantization.formats import QuantizationSettings

if TYPE_CHECKING:
    from .parity import ParityReport


@dataclass(frozen=True)
class ExportRequest:
    """The options of an export.

    Attributes:
        checkpoint: The weight file or folder; None for the bundled demo.
        output: The artifact folder; None for one in the current folder named after the checkpoint.
        moe: Whether the checkpoint must be a mixture of experts; without a checkpoint, the bundled one that is.
        target: `portable`, `ort` or `tensorrt`; `auto` is `ort`, or `portable` for a model that `ort` cannot hold.
        precision: One that the target comes in, see `precision.PRECISIONS`.
        tokenizer: A `tokenizer.json` or its folder; None looks next to the checkpoint.
        config: A JSON file that overrides what is inferred from the checkpoint.
        model: `FILE.py:CLASS`, the code of a changed model, which is run; None for stock MiniMind.
        kv_cache: What the KV cache holds: `float`, as the activations are, or, for target `ort`, `int8`.
        max_length: The context length in tokens; None for the checkpoint's own, at most `pipeline.DEFAULT_MAX_LENGTH`.
        yarn: Whether YaRN is on; None leaves it as the checkpoint's config has it.
        lora: The adapter files to merge, in order.
        quantization: The settings of the rounding, for the precisions int8 and int4.
        verify: Whether to compare the graph with eager PyTorch before the artifact is put in place.
        force: Whether to replace an artifact that is there.
    """

    checkpoint: Path | None = None
    output: Path | None = None
    moe: bool = False
    target: str = "auto"
    precision: str = "fp32"
    kv_cache: str = "float"
    tokenizer: Path | None = None
    config: Path | None = None
    model: str | None = None
    max_length: int | None = None
    yarn: bool | None = None
    lora: tuple[Path, ...] = ()
    quantization: QuantizationSettings = field(default_factory=QuantizationSettings)
    verify: bool = True
    force: bool = False

    @property
    def first_target(self) -> str:
        """The target that is tried first; for `auto` it is `ort`."""
        return "ort" if self.target == "auto" else self.target


@dataclass(frozen=True)
class ExportResult:
    """The artifact that an export wrote.

    Attributes:
        folder: The artifact folder.
        graph: The graph that this export wrote.
        notes: Lines for the user about settings that were inferred or assumed, and files that were left out.
        has_tokenizer: Whether the artifact takes text; otherwise it takes token ids only.
        has_chat_template: Whether prompts are wrapped as a chat.
        manifest: The content of `manifest.json`.
        parity: The parity report; None where the graph was not verified.
        is_pretrained_only: Whether the checkpoint's name says that it was never taught to chat.
    """

    folder: Path
    graph: Path
    notes: tuple[str, ...]
    has_tokenizer: bool
    has_chat_template: bool
    manifest: dict[str, Any] = field(repr=False)
    parity: ParityReport | None = field(default=None, repr=False)
    is_pretrained_only: bool = False

    def to_json(self) -> dict[str, Any]:
        """A JSON object for programs."""
        return {
            "folder": str(self.folder),
            "graph": str(self.graph),
            "notes": list(self.notes),
            "has_tokenizer": self.has_tokenizer,
            "has_chat_template": self.has_chat_template,
            "manifest": self.manifest,
        }
