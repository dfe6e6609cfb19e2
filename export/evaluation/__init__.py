"""How good an artifact is: what it knows, how well it predicts text, and how far it is from float32."""

from __future__ import annotations

from .evaluate import evaluate
from .held_out import Document, HeldOut, bundled_held_out
from .keeping import keep_evaluation, require_artifact
from .question import Question, Score, scores
from .report import EvaluationReport

__all__ = [
    "Document",
    "EvaluationReport",
    "HeldOut",
    "Question",
    "Score",
    "bundled_held_out",
    "evaluate",
    "keep_evaluation",
    "require_artifact",
    "scores",
]
