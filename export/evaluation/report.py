"""The report of an evaluation, and saving its figures in the manifest of the measured artifact."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minimind_edge.runtime.errors import ArtifactError

from ..artifact.manifest import save_figures
from ..artifact.origin import locate
from .experts import ExpertLoad
from .likelihood import Likelihood
from .questions import Kind, Score

NOT_SAVED = ("graph", "target", "precision", "bytes", "reference", "wrong", "notes", "seconds")
"""The figures that are not saved: those that the manifest has already, and those of this machine or run."""


@dataclass(frozen=True)
class EvaluationReport:
    """The quality of one graph or plan.

    Args:
        graph: The file of the graph or plan.
        target: `portable`, `ort` or `tensorrt`; None where the graph does not say.
        precision: The precision of the weights; None where it is not known.
        size: The size of the graph with its weights, or of the plan, in bytes.
        bits_per_weight: The stored bits per parameter; None for a plan, and where the parameters are not counted.
        text: What people read about the text that was predicted.
        likelihood: How well the text was predicted, and how far from the reference.
        reference: What people read about the model that it was compared with; None without one.
        scores: Right answers by kind and language; empty where nothing was asked.
        wrong: Some of the wrong answers.
        experts: The shares of a mixture of experts' work; None for a dense model.
        notes: What a reader has to know, one line each.
        seconds: The time that the evaluation took.
    """

    graph: Path
    target: str | None
    precision: str | None
    size: int
    bits_per_weight: float | None
    text: str
    likelihood: Likelihood
    reference: str | None
    scores: dict[Kind, dict[str, Score]]
    wrong: tuple[WrongAnswer, ...]
    experts: ExpertLoad | None
    notes: tuple[str, ...]
    seconds: float

    @property
    def mean_kl(self) -> float | None:
        """The mean KL divergence from the reference, nats per token; None without a reference."""
        return self.likelihood.mean_kl

    @property
    def top1_agreement(self) -> float | None:
        """The share of tokens where the reference finds the same one likeliest; None without a reference."""
        return self.likelihood.top1_agreement

    @property
    def perplexity(self) -> float:
        """The perplexity of the text that was predicted."""
        return self.likelihood.perplexity

    def quality(self) -> dict[str, float | None]:
        """The figures of quality, as programs read them."""
        return {
            "bits_per_weight": self.bits_per_weight,
            "mean_kl": self.likelihood.mean_kl,
            "top1_agreement": self.likelihood.top1_agreement,
            "perplexity": self.likelihood.perplexity,
            "reference_perplexity": self.likelihood.reference_perplexity,
        }

    def to_json(self) -> dict[str, Any]:
        """A JSON object for programs."""
        scores = {kind: {name: score.to_json() for name, score in found.items()} for kind, found in self.scores.items()}
        return {
            "graph": str(self.graph),
            "target": self.target,
            "precision": self.precision,
            "bytes": self.size,
            "text": self.text,
            "tokens": self.likelihood.tokens,
            "reference": self.reference,
            **self.quality(),
            **{kind: found or None for kind, found in scores.items()},
            "experts": None if self.experts is None else self.experts.to_json(),
            "wrong": [answer.to_json() for answer in self.wrong],
            "notes": list(self.notes),
            "seconds": self.seconds,
        }


@dataclass(frozen=True)
class WrongAnswer:
    """A question that was answered wrongly; `expected` is what people read about the right answer."""

    prompt: str
    answer: str
    expected: str

    def to_json(self) -> dict[str, Any]:
        """A JSON object for programs."""
        return {"prompt": self.prompt, "answer": self.answer, "expected": self.expected}


def require_artifact(path: Path) -> None:
    """Check, before the work is done, that there is a manifest to save the figures in.

    Raises:
        ArtifactError: There is none.
    """
    locate(path)


def save_evaluation(report: EvaluationReport) -> None:
    """Write the figures of a graph into its entry of the manifest, as `evaluation`.

    Args:
        report: The report of a graph in an artifact folder.

    Raises:
        ArtifactError: The graph is in no artifact, or its manifest does not name it.
    """
    folder, file = locate(report.graph)
    if file is None:
        raise ArtifactError(f"{report.graph} is a folder: figures are saved of one graph in it")
    save_figures(folder, file, _figures(report))


def _figures(report: EvaluationReport) -> dict[str, Any]:
    figures = {name: value for name, value in report.to_json().items() if name not in NOT_SAVED}
    return figures | {"text": Path(report.text).name}
