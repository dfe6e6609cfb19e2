"""What an engine build is asked for, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DEFAULT_CHUNK = 512
"""Most prompt tokens of one run: longer prompts are run in chunks, so that working memory stays bounded."""


@dataclass(frozen=True)
class EngineRequest:
    """Which plan to build, and how.

    Attributes:
        source: A checkpoint, an artifact folder or a graph of target `tensorrt`; None for the bundled demo.
        output: The `.plan`; None for `model.plan` in the artifact folder, or in the current one.
        backend: `auto`, `tensorrt` or `rtx`.
        precision: Of the weights, as in an export; None for the artifact's own, or `fp16` from a checkpoint.
        max_batch: Most rows.
        max_length: Most positions of a row; None for the graph's own limit.
        max_chunk: Most prompt tokens of a row in one run.
        compute_capabilities: GPUs to build for, as in "8.6"; none for the backend's default.
        cache: `static` (written in place), `growing`, or `auto`, which takes what the installed parser does.
        workspace: Most bytes of working memory that TensorRT may use for one layer; None leaves it to TensorRT.
        timing_cache: A file that keeps what TensorRT measured on this GPU, so that the next build is faster.
    """

    source: Path | None = None
    output: Path | None = None
    backend: str = "auto"
    precision: str | None = None
    max_batch: int = 1
    max_length: int | None = None
    max_chunk: int = DEFAULT_CHUNK
    compute_capabilities: tuple[str, ...] = ()
    cache: str = "auto"
    workspace: int | None = None
    timing_cache: Path | None = None


@dataclass(frozen=True)
class EngineResult:
    """What was written.

    Attributes:
        plan: The plan.
        description: The file beside it that says what it is.
        content: What that file holds.
        build_s: Seconds that TensorRT took.
        has_tokenizer: Whether the plan's folder takes text, or token ids alone.
        notes: Lines for people.
    """

    plan: Path
    description: Path
    content: dict[str, Any] = field(repr=False)
    build_s: float
    has_tokenizer: bool
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A JSON object for programs."""
        return {
            "plan": str(self.plan),
            "description": self.content,
            "build_s": self.build_s,
            "has_tokenizer": self.has_tokenizer,
            "notes": list(self.notes),
        }
