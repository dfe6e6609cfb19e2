"""What is evaluated: an artifact that was opened, and what is known of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from minimind_edge.runtime.artifact.folder import PLAN_SUFFIX, Artifact
from minimind_edge.runtime.artifact.json_object import JsonObject
from minimind_edge.runtime.engine import Engine
from minimind_edge.runtime.errors import ArtifactError
from minimind_edge.runtime.tensorrt.plan import Plan
from minimind_edge.runtime.text.tokenizer import Tokenizer

from ..artifact.manifest import MANIFEST
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
        content: What its manifest, or what stands beside a plan, says; empty without one.
    """

    artifact: Artifact
    engine: Engine
    tokenizer: Tokenizer
    target: str | None
    precision: str | None
    size: int
    most_rows: int
    content: JsonObject

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
            return cls(artifact, engine, engine.tokenizer, "tensorrt", plan.precision, size, rows, plan.content)
        graph = GraphInspection.read(artifact.graph)
        target, content = graph.metadata.get("minimind_edge.target"), _manifest(artifact)
        return cls(artifact, engine, engine.tokenizer, target, graph.precision, graph.size, ROWS, content)

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
        return self.content.child("architecture").child("moe").positive("n_routed_experts")

    @property
    def bits_per_weight(self) -> float | None:
        """See `bits_per_weight`; None for a plan, and where the number of parameters is not known."""
        parameters = self.content.child("architecture").child("parameters").positive("total")
        return None if parameters is None or self.is_plan else bits_per_weight(self.artifact.graph, parameters)


def _manifest(artifact: Artifact) -> JsonObject:
    if artifact.folder is None or artifact.manifest is None:
        return JsonObject({}, MANIFEST)
    return JsonObject.read(artifact.folder / MANIFEST)


def _vocabulary(tokenizer: Path) -> JsonObject:
    return JsonObject.read(tokenizer).child("model").child("vocab")
