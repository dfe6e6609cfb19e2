"""The artifact that is evaluated: opened, with what is known of it and how many bits its weights take."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path

import msgspec

from minimind_edge.runtime.artifact.folder import Artifact
from minimind_edge.runtime.artifact.json_file import read_json
from minimind_edge.runtime.artifact.manifest import Architecture, Manifest
from minimind_edge.runtime.engine import Engine
from minimind_edge.runtime.errors import ArtifactError
from minimind_edge.runtime.tensorrt import PLAN_SUFFIX
from minimind_edge.runtime.tensorrt.plan import Plan
from minimind_edge.runtime.tensorrt.plan_description import PlanDescription
from minimind_edge.runtime.text.tokenizer import Tokenizer

from ..bundled import DEMO_FOLDER
from ..inspection.graph import GraphInspection
from .examples import BATCH_SIZE

ROTARY_TABLES = "rotary_emb."
"""The start of the names of values that are computed, not trained."""


@dataclass(frozen=True)
class EvaluatedArtifact:
    """An artifact, ready to run.

    Args:
        artifact: The artifact's files.
        engine: The engine that runs it.
        tokenizer: The engine's tokenizer.
        target: The graph's target, None where it does not say; a plan's is `tensorrt`.
        precision: The precision of the weights, None where it is not known.
        size: The size of the graph with its weights, or of the plan, in bytes.
        batch_size: The most rows that may be run together.
        manifest: The manifest, or a plan's description; None without one.
    """

    artifact: Artifact
    engine: Engine
    tokenizer: Tokenizer
    target: str | None
    precision: str | None
    size: int
    batch_size: int
    manifest: Manifest | PlanDescription | None

    @classmethod
    def load(cls, path: Path, device: str, threads: int | None) -> EvaluatedArtifact:
        """Open an artifact.

        Args:
            path: A folder, a graph or a plan.
            device: `auto`, `cpu` or `cuda`.
            threads: The threads of one operator; None for the physical cores.

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
            rows, size = min(BATCH_SIZE, plan.max_batch), artifact.graph.stat().st_size
            precision, description = plan.precision, plan.description
            return cls(artifact, engine, engine.tokenizer, "tensorrt", precision, size, rows, description)
        graph = GraphInspection.read(artifact.graph)
        target, manifest = graph.metadata.get("minimind_edge.target"), artifact.manifest
        return cls(artifact, engine, engine.tokenizer, target, graph.precision, graph.size, BATCH_SIZE, manifest)

    @property
    def is_plan(self) -> bool:
        """Whether it is a TensorRT plan, not a graph."""
        return self.artifact.graph.suffix == PLAN_SUFFIX

    @property
    def is_demo(self) -> bool:
        """Whether it has the vocabulary of a bundled checkpoint, so that it may know what the demo's were taught."""
        assert self.artifact.tokenizer is not None
        vocabulary = _vocabulary(self.artifact.tokenizer)
        return any(vocabulary == _vocabulary(file) for file in DEMO_FOLDER.glob("*/tokenizer.json"))

    @property
    def experts(self) -> int | None:
        """The number of routed experts of a layer; None for a dense model, and where it is not known."""
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
        return self.manifest.architecture if isinstance(self.manifest, Manifest) else Architecture()


def _vocabulary(tokenizer: Path) -> dict[str, int]:
    return read_json(tokenizer, _TokenizerFile).model.vocab


class _TokenizerModel(msgspec.Struct):
    vocab: dict[str, int] = {}


class _TokenizerFile(msgspec.Struct):
    """The one part of `tokenizer.json` that is read here."""

    model: _TokenizerModel = msgspec.field(default_factory=_TokenizerModel)


def bits_per_weight(graph: Path, parameters: int) -> float:
    """The stored bits of a graph's weights, scales and zero points included, divided by the model's parameters.

    Args:
        graph: The `.onnx` file.
        parameters: The number of the model's parameters, a tied head counted once.
    """
    import onnx

    initializers = onnx.load(str(graph), load_external_data=False).graph.initializer
    kept = [tensor for tensor in initializers if not tensor.name.startswith(ROTARY_TABLES)]
    bits: int = sum(prod(tensor.dims) * _bits(tensor.data_type) for tensor in kept)
    return bits / parameters


def _bits(dtype: int) -> int:
    """The bits of one element; the smallest types are packed."""
    import onnx

    if dtype in (onnx.TensorProto.INT4, onnx.TensorProto.UINT4):
        return 4
    return 8 * int(onnx.helper.tensor_dtype_to_np_dtype(dtype).itemsize)
