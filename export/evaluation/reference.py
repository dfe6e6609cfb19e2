"""The float32 model that an artifact is compared with, and where it is found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from minimind_edge.runtime.artifact.folder import Artifact
from minimind_edge.runtime.errors import ArtifactError
from minimind_edge.runtime.load import load_session
from minimind_edge.runtime.tensorrt import PLAN_SUFFIX

from ..artifact.origin import find_checkpoint, load_exported
from ..errors import ExportError
from ..inspection.artifact import has_graphs
from .artifact import EvaluatedArtifact
from .likelihood import EagerLanguageModel, LanguageModel, SessionLanguageModel

FLOAT32 = "fp32"


@dataclass(frozen=True)
class Reference:
    """The float32 model that predicts the same text.

    Args:
        name: What people read: its file.
        model: The model.
    """

    name: str
    model: LanguageModel


def find_reference(evaluated: EvaluatedArtifact, against: Path | None, threads: int | None) -> Reference | None:
    """The model to compare with.

    Args:
        evaluated: The artifact that is evaluated.
        against: An artifact (of a folder its float32 graph), or a checkpoint; None looks for a float32 graph in the
            same folder, then for the checkpoint that the manifest names.
        threads: The threads of one operator; None for the physical cores.

    Returns:
        The reference; None where the artifact is itself in float32 and `against` is None.

    Raises:
        ExportError: The reference has another vocabulary, or is nowhere to be found.
        EdgeError: `against` cannot be run.
        MiniMindError: `against` is no checkpoint.
    """
    if against is not None:
        found = _named(evaluated, against, threads)
    elif evaluated.precision == FLOAT32:
        return None
    else:
        found = _of_artifact(evaluated, threads)
    expected = evaluated.engine.session.vocab_size
    if found.model.vocab_size != expected:
        raise ExportError(
            f"{found.name} has a vocabulary of {found.model.vocab_size} tokens, {evaluated.artifact.path} has one of "
            f"{expected}: compare it with a model of the same tokenizer"
        )
    return found


def _named(evaluated: EvaluatedArtifact, against: Path, threads: int | None) -> Reference:
    if against.suffix in (".onnx", PLAN_SUFFIX):
        return _of_graph(against, threads)
    if against.is_dir() and has_graphs(against):
        return _of_graph(Artifact.open(against, FLOAT32).graph, threads)
    return _of_checkpoint(evaluated, against)


def _of_artifact(evaluated: EvaluatedArtifact, threads: int | None) -> Reference:
    """A float32 graph of the same folder, else eager PyTorch.

    Raises:
        ExportError: Neither is there.
    """
    folder = evaluated.artifact.folder
    if folder is not None:
        try:
            return _of_graph(Artifact.open(folder, FLOAT32).graph, threads)
        except ArtifactError:
            pass  # the folder has none
    manifest = evaluated.manifest
    if folder is None or manifest is None or manifest.checkpoint is None or manifest.config is None:
        raise ExportError(
            f"{evaluated.artifact.path} does not say what it was made from; name a float32 model by --against"
        )
    return _of_checkpoint(evaluated, find_checkpoint(folder, manifest.checkpoint))


def _of_graph(path: Path, threads: int | None) -> Reference:
    return Reference(str(path), SessionLanguageModel(load_session(path, threads=threads)))


def _of_checkpoint(evaluated: EvaluatedArtifact, path: Path) -> Reference:
    from minimind_edge.minimind.checkpoint import read_checkpoint

    folder, manifest = evaluated.artifact.folder, evaluated.manifest
    if folder is not None and manifest is not None and manifest.checkpoint is not None and manifest.config is not None:
        model = load_exported(path, folder, manifest.checkpoint, manifest.config).model
    else:
        model = read_checkpoint(path).model
    return Reference(f"{path} (PyTorch)", EagerLanguageModel(model))
