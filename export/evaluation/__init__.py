"""Evaluation: what an artifact knows, how well it predicts text, and how far it is from float32."""

from __future__ import annotations

from .evaluate import evaluate
from .examples import Document
from .held_out import HeldOut, bundled_held_out
from .questions import Question, Score, scores
from .report import EvaluationReport, require_artifact, save_evaluation

__all__ = [
    "Document",
    "EvaluationReport",
    "HeldOut",
    "Question",
    "Score",
    "bundled_held_out",
    "evaluate",
    "require_artifact",
    "save_evaluation",
    "scores",
]
