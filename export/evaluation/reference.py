"""The float32 model that an artifact is compared with: where it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from minimind_edge.runtime.artifact.folder import PLAN_SUFFIX, Artifact
from minimind_edge.runtime.errors import ArtifactError
from minimind_edge.runtime.load import load_session

from ..errors import ExportError
from ..inspection.artifact import has_graphs
from ..verification import find_checkpoint, load_exported
from .predictor import EagerPredictor, Predictor, SessionPredictor
from .subject import Subject

FLOAT32 = "fp32"


@dataclass(frozen=True)
class Reference:
    """What predicts the same text for comparison; `name` tells people which one."""

    name: str
    predictor: Predictor


def find_reference(subject: Subject, against: Path | None, threads: int | None) -> Reference | None:
    """The model to compare with.

    Args:
        subject: What is measured.
        against: An artifact (of a folder its float32 graph), or a checkpoint; None looks beside the subject: for a
            float32 graph in its folder, then for the checkpoint that its manifest names. A subject that is itself in
            float32 has none then.
        threads: That one operator may use; None for the physical cores.

    Raises:
        ExportError: It is of another vocabulary, or nowhere to be found.
        EdgeError: `against` cannot be run.
        MiniMindError: `against` is no checkpoint.
    """
    if against is not None:
        found = _named(subject, against, threads)
    elif subject.precision == FLOAT32:
        return None
    else:
        found = _beside(subject, threads)
    expected = subject.engine.session.vocab_size
    if found.predictor.vocab_size != expected:
        raise ExportError(
            f"{found.name} has a vocabulary of {found.predictor.vocab_size} tokens, {subject.artifact.path} has one of "
            f"{expected}: compare it with a model of the same tokenizer"
        )
    return found


def _named(subject: Subject, against: Path, threads: int | None) -> Reference:
    if against.suffix in (".onnx", PLAN_SUFFIX):
        return _of_graph(against, threads)
    if against.is_dir() and has_graphs(against):
        return _of_graph(Artifact.open(against, FLOAT32).graph, threads)
    return _of_checkpoint(subject, against)


def _beside(subject: Subject, threads: int | None) -> Reference:
    """A float32 graph of the same folder, else eager PyTorch.

    Raises:
        ExportError: Neither is there.
    """
    folder = subject.artifact.folder
    if folder is not None:
        try:
            return _of_graph(Artifact.open(folder, FLOAT32).graph, threads)
        except ArtifactError:
            pass  # the folder has none
    told = subject.told
    if folder is None or told is None or told.checkpoint is None or told.config is None:
        raise ExportError(
            f"nothing tells what {subject.artifact.path} was made from; name a float32 model by --against"
        )
    return _of_checkpoint(subject, find_checkpoint(folder, told.checkpoint.file, told.checkpoint.sha256))


def _of_graph(path: Path, threads: int | None) -> Reference:
    return Reference(str(path), SessionPredictor(load_session(path, threads=threads)))


def _of_checkpoint(subject: Subject, path: Path) -> Reference:
    from minimind_edge.minimind.checkpoint import read_checkpoint

    folder, told = subject.artifact.folder, subject.told
    if folder is not None and told is not None and told.checkpoint is not None and told.config is not None:
        model = load_exported(path, folder, told.checkpoint, told.config).model
    else:
        model = read_checkpoint(path).model
    return Reference(f"{path} (PyTorch)", EagerPredictor(model))
