"""Quality of a build: its logits compared with those of float32 eager PyTorch, token by token."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .contenders import Contender
from .failure import Unmeasurable
from .preparation import Prepared

ROWS, LENGTH = 4, 256
"""The number of rows of a text and their length in tokens, short enough for every model here."""

DOCUMENTS = 48
"""The number of the demo's held-out documents that are read, evenly spaced over all."""

PATIENCE_S = 600
"""The most seconds for the logits of all rows."""


@dataclass(frozen=True)
class Quality:
    """The divergence of a build from float32.

    Attributes:
        mean_kl: The KL divergence of its next-token distributions from the reference's, mean over tokens, nats.
        top1: The share of tokens where both find the same next token most likely.
    """

    mean_kl: float
    top1: float

    @classmethod
    def between(cls, reference: np.ndarray, logits: np.ndarray) -> Quality:
        """Compare logits [N, V] with the reference's, in float64.

        Raises:
            Unmeasurable: The shapes differ, or a logit is not finite.
        """
        if reference.shape != logits.shape:
            raise Unmeasurable(f"its logits have shape {logits.shape}, the reference's {reference.shape}")
        if not np.isfinite(logits).all():
            raise Unmeasurable("its logits are not all finite")
        kl = np.empty(len(reference))
        for index, (one, other) in enumerate(zip(reference, logits, strict=True)):  # one by one: float64 takes memory
            expected = log_softmax(one)
            kl[index] = np.exp(expected) @ (expected - log_softmax(other))
        return cls(float(kl.mean()), float((reference.argmax(-1) == logits.argmax(-1)).mean()))


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Log-probabilities of logits [V], float64."""
    shifted = logits.astype(np.float64) - logits.max()
    return shifted - np.log(np.exp(shifted).sum())


@dataclass(frozen=True)
class Passage:
    """Tokens that a model reads; `first` is the index of the first one whose prediction counts, at least 1."""

    tokens: tuple[int, ...]
    first: int = 1


def text_passages(source: Path, text: str) -> list[Passage]:
    """The beginning of a text, encoded by a folder's own tokenizer, in rows.

    Raises:
        Unmeasurable: The text is shorter than one row.
    """
    from tokenizers import Tokenizer

    ids = Tokenizer.from_file(str(source / "tokenizer.json")).encode(text, add_special_tokens=False).ids
    rows = min(ROWS, len(ids) // LENGTH)
    if not rows:
        raise Unmeasurable(f"the text has {len(ids)} tokens, fewer than {LENGTH}")
    return [Passage(tuple(ids[row * LENGTH : (row + 1) * LENGTH])) for row in range(rows)]


def demo_passages(source: Path) -> list[Passage]:
    """Documents that the demo's training never saw, as chats; their answers count."""
    from tokenizers import Tokenizer

    from minimind_edge.export.evaluation import bundled_held_out

    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    passages = []
    for document in bundled_held_out().limited(DOCUMENTS).documents:
        prompt = f"<|im_start|>user\n{document.prompt}<|im_end|>\n<|im_start|>assistant\n"
        given = tokenizer.encode(prompt, add_special_tokens=False).ids
        answer = tokenizer.encode(f"{document.answer}<|im_end|>", add_special_tokens=False).ids
        passages.append(Passage((*given, *answer), len(given)))
    return passages


def logits_of(prepared: Prepared, passages: Sequence[Passage], threads: int) -> np.ndarray:
    """A contender's logits for every token that counts, [N, V] float32.

    Raises:
        Unmeasurable: The contender gives no logits.
    """
    with tempfile.TemporaryDirectory() as folder, prepared.start(threads) as worker:
        question, answer = Path(folder) / "passages.json", Path(folder) / "logits.npy"
        question.write_text(json.dumps([[passage.tokens, passage.first] for passage in passages]), encoding="utf-8")
        worker.ask("logits", passages=str(question), out=str(answer), patience_s=PATIENCE_S)
        return np.load(answer)


@dataclass(frozen=True)
class QualityRow:
    """The quality of one contender, or the reason why it has none."""

    contender: Contender
    quality: Quality | None
    disk_bytes: int | None = None
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        name = {"peer": self.contender.peer.name, "build": self.contender.build}
        if self.quality is None:
            return name | {"not_measured": self.reason}
        return name | vars(self.quality) | {"disk_bytes": self.disk_bytes}


def measure_quality(
    entries: Sequence[tuple[Contender, Prepared | Unmeasurable]],
    reference: Prepared,
    passages: Sequence[Passage],
    threads: int,
) -> list[QualityRow]:
    """Compare each contender with the reference."""
    expected = logits_of(reference, passages, threads)
    results = []
    for contender, prepared in entries:
        try:
            if isinstance(prepared, Unmeasurable):
                raise prepared
            quality = Quality.between(expected, logits_of(prepared, passages, threads))
            results.append(QualityRow(contender, quality, prepared.disk_bytes()))
        except Unmeasurable as reason:
            results.append(QualityRow(contender, None, reason=str(reason)))
    return results
