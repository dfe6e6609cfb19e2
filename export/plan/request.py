"""The request for a plan, and its result."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..checkpoint_options import CheckpointOptions

DEFAULT_CHUNK = 512
"""Most prompt tokens of one run: longer prompts are run in chunks, so that working memory stays bounded."""


@dataclass(frozen=True)
class PlanRequest:
    """The options of a plan's build.

    Attributes:
        source: A checkpoint, an artifact folder or a graph of target `tensorrt`; None for the bundled demo.
        output: The path of the `.plan`; None for `model.plan` in the artifact folder, or else in the current folder.
        backend: `auto`, `tensorrt` or `rtx`.
        precision: Precision of the weights; None for the artifact's own, or `fp16` from a checkpoint.
        max_batch: Most rows.
        max_length: Most positions of a row; None for the graph's own limit.
        max_chunk: Most prompt tokens of a row in one run.
        compute_capabilities: GPUs to build for, such as "8.6"; empty for the backend's default.
        workspace: Most bytes of working memory that TensorRT may use for one layer; None leaves it to TensorRT.
        timing_cache: A file that keeps the kernel timings measured on this GPU, so that the next build is faster.
        checkpoint: How to read the checkpoint; artifacts and graphs take none of these options.
    """

    source: Path | None = None
    output: Path | None = None
    backend: str = "auto"
    precision: str | None = None
    max_batch: int = 1
    max_length: int | None = None
    max_chunk: int = DEFAULT_CHUNK
    compute_capabilities: tuple[str, ...] = ()
    workspace: int | None = None
    timing_cache: Path | None = None
    checkpoint: CheckpointOptions = field(default_factory=CheckpointOptions)


@dataclass(frozen=True)
class PlanResult:
    """The plan that was written.

    Attributes:
        plan: The plan's path.
        description: The path of the JSON file next to the plan that describes it.
        content: The content of that file.
        build_s: Seconds that TensorRT took.
        has_tokenizer: Whether the plan's folder takes text; without a tokenizer it takes token ids alone.
        notes: Lines for the user.
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
