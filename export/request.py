"""What an export is asked for, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .quantization.settings import QuantizationSettings

if TYPE_CHECKING:
    from .parity import ParityReport


@dataclass(frozen=True)
class ExportRequest:
    """What to export, and how.

    Attributes:
        checkpoint: Weight file or folder; None for the bundled demo.
        output: The artifact folder; None for one in the current folder named after the checkpoint.
        moe: Demand a mixture of experts; of the bundled demos, take that one.
        target: `portable`, `ort` or `tensorrt`.
        precision: One that the target comes in, see `precision.PRECISIONS`.
        tokenizer: A `tokenizer.json` or its folder; None looks beside the checkpoint.
        config: A JSON file that overrides what is inferred from the checkpoint.
        model: `FILE.py:CLASS`, the code of a changed model, which is run; None for stock MiniMind.
        cache: Of target `tensorrt`: `static`, or `growing` for a TensorRT older than opset 24.
        kv_cache: `float`, as the activations are, or `int8`, of target `ort`.
        max_length: Context length in tokens; None for the checkpoint's own, at most `pipeline.DEFAULT_MAX_LENGTH`.
        yarn: Turn YaRN on or off; None leaves it as the checkpoint's config has it.
        lora: Adapter files to merge, in order.
        quantization: How weights are rounded, for precisions of integers; target `tensorrt` has its own way.
        verify: Compare the artifact with eager PyTorch before it is put in place.
        force: Replace an artifact that is there.
    """

    checkpoint: Path | None = None
    output: Path | None = None
    moe: bool = False
    target: str = "ort"
    precision: str = "fp32"
    cache: str = "static"
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


@dataclass(frozen=True)
class ExportResult:
    """What was written.

    Attributes:
        folder: The artifact.
        graph: The graph that this export wrote.
        notes: Lines for people: what was inferred, assumed, left out.
        has_tokenizer: Whether the artifact takes text, or token ids alone.
        has_chat_template: Whether prompts are wrapped as a chat.
        manifest: The content of `manifest.json`.
        parity: The proof, None without verification.
    """

    folder: Path
    graph: Path
    notes: tuple[str, ...]
    has_tokenizer: bool
    has_chat_template: bool
    manifest: dict[str, Any] = field(repr=False)
    parity: ParityReport | None = field(default=None, repr=False)

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
