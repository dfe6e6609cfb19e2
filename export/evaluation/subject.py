"""What is evaluated: an artifact that was opened, and what is known of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from minimind_edge.runtime.artifact.folder import PLAN_SUFFIX, Artifact
from minimind_edge.runtime.artifact.json_file import read_json
from minimind_edge.runtime.artifact.manifest import Architecture, Manifest
from minimind_edge.runtime.engine import Engine
from minimind_edge.runtime.errors import ArtifactError
from minimind_edge.runtime.tensorrt.plan import Plan
from minimind_edge.runtime.tensorrt.plan_description import PlanDescription
from minimind_edge.runtime.text.tokenizer import Tokenizer

from ..bundled import DEMO_FOLDER
from ..inspection.graph import GraphInspection
from .row import ROWS
from .size import bits_per_weight


@dataclass(frozen=True)
class Subject:
    """An artifact, ready to run.

    Args:
        artifact: Its files.
        engine: Runs it.
        tokenizer: Of the engine.
        target: Of the graph, None where it does not tell; a plan's is `tensorrt`.
        precision: Of the weights, None where nobody knows.
        size: Bytes of the graph with its weights, or of the plan.
        most_rows: Rows that may be run together.
        told: Its manifest, or what stands next to a plan; None without one.
    """

    artifact: Artifact
    engine: Engine
    tokenizer: Tokenizer
    target: str | None
    precision: str | None
    size: int
    most_rows: int
    told: Manifest | PlanDescription | None

    @classmethod
    def load(cls, path: Path, device: str, threads: int | None) -> Subject:
        """Open an artifact.

        Args:
            path: A folder, a graph or a plan.
            device: `auto`, `cpu` or `cuda`.
            threads: That one operator may use; None for the physical cores.

        Raises:
            ArtifactError: It is broken, or lacks a tokenizer.
            MissingError: The environment lacks what running it takes.
        """
        artifact = Artifact.open(path)
        if artifact.tokenizer is None:
            raise ArtifactError(f"{path} has no tokenizer, which eval needs: export with --tokenizer, into a folder")
        engine = Engine.load(path, device=device, threads=threads)
        assert engine.tokenizer is not None  # the artifact has one
        if artifact.graph.suffix == PLAN_SUFFIX:
            plan = Plan.read(artifact.graph)
            rows, size = min(ROWS, plan.max_batch), artifact.graph.stat().st_size
            precision, told = plan.precision, plan.description
            return cls(artifact, engine, engine.tokenizer, "tensorrt", precision, size, rows, told)
        graph = GraphInspection.read(artifact.graph)
        target = graph.metadata.get("minimind_edge.target")
        return cls(artifact, engine, engine.tokenizer, target, graph.precision, graph.size, ROWS, artifact.manifest)

    @property
    def is_plan(self) -> bool:
        """Whether it is a TensorRT plan, no graph."""
        return self.artifact.graph.suffix == PLAN_SUFFIX

    @property
    def is_demo(self) -> bool:
        """Whether it has a bundled checkpoint's vocabulary: then it may have been taught what the demo's were."""
        assert self.artifact.tokenizer is not None
        vocabulary = _vocabulary(self.artifact.tokenizer)
        return any(vocabulary == _vocabulary(file) for file in DEMO_FOLDER.glob("*/tokenizer.json"))

    @property
    def experts(self) -> int | None:
        """Routed experts of a layer, None for a dense model and where nobody knows."""
        moe = self._architecture.moe
        return None if moe is None else moe.n_routed_experts

    @property
    def bits_per_weight(self) -> float | None:
        """See `bits_per_weight`; None for a plan, and where the number of parameters is not known."""
        counts = self._architecture.parameters
        if counts is None or counts.total is None:
            return None
        return bits_per_weight(self.artifact.graph, counts.total)

    @property
    def _architecture(self) -> Architecture:
        return self.told.architecture if isinstance(self.told, Manifest) else Architecture()


def _vocabulary(tokenizer: Path) -> dict[str, int]:
    return read_json(tokenizer, _TokenizerFile).model.vocab


class _TokenizerModel(msgspec.Struct):
    vocab: dict[str, int] = {}


class _TokenizerFile(msgspec.Struct):
    """What is read of `tokenizer.json` here."""

    model: _TokenizerModel = msgspec.field(default_factory=_TokenizerModel)
