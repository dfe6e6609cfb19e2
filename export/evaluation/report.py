"""What an evaluation found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .experts import ExpertLoad
from .likelihood import Likelihood
from .question import Kind, Score


@dataclass(frozen=True)
class EvaluationReport:
    """The quality of one graph or plan.

    Args:
        graph: What was run.
        target: `portable`, `ort` or `tensorrt`; None where it does not tell.
        precision: Of the weights; None where nobody knows.
        size: Bytes of the graph with its weights, or of the plan.
        bits_per_weight: Stored bits over parameters; None for a plan, or where the parameters are not counted.
        text: What was predicted, for people.
        likelihood: How well it was predicted, and how far from the reference.
        reference: What it was compared with, for people; None for nothing.
        scores: Right answers by kind and language; empty where nothing was asked.
        wrong: Some of the wrong answers: prompt, answer, and what was expected.
        experts: Of a mixture of experts: who works how much.
        notes: What a reader has to know, one line each.
        seconds: That it took.
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
        """Nats, from the reference; None without one."""
        return self.likelihood.mean_kl

    @property
    def top1_agreement(self) -> float | None:
        """Share of tokens where the reference finds the same one likeliest; None without a reference."""
        return self.likelihood.top1_agreement

    @property
    def perplexity(self) -> float:
        """Of the text that was predicted."""
        return self.likelihood.perplexity

    def quality(self) -> dict[str, float | None]:
        """The figures that a manifest keeps of a graph."""
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
    """A question that was answered wrongly; `expected` is for people."""

    prompt: str
    answer: str
    expected: str

    def to_json(self) -> dict[str, Any]:
        """A JSON object for programs."""
        return {"prompt": self.prompt, "answer": self.answer, "expected": self.expected}
