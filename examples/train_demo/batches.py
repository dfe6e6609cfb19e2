"""From documents to padded batches; each step's batches are always the same, so that a run can be resumed exactly."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer

from examples.train_demo.corpus import Document, Mix, Turn, training_document

PADDING, BEGIN, END = 0, 1, 2
LENGTH_STEP = 8

TOPIC_WEIGHT = 4.0
"""The loss weight of a topic's tokens: most words of a story could be others, but its topics could not."""


@dataclass(frozen=True)
class Batch:
    """Rows of one document each, padded on the right.

    Attributes:
        input_ids: [B, S] int64.
        weights: [B, S] float32, the weight of the loss on predicting each token; 0 for prompts and padding.
    """

    input_ids: torch.Tensor
    weights: torch.Tensor


class Encoder:
    """Turns documents into token ids and loss weights: the loss counts answers and their end, not prompts."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._roles = {role: self._ids(f"{role}\n") for role in ("system", "user", "assistant")}
        self._newline = self._ids("\n")

    def __call__(self, document: Document) -> tuple[list[int], list[float]]:
        """Return the token ids and their loss weights, equally long."""
        if document.text is not None:
            ids = self._ids(document.text)
            return [BEGIN, *ids, END], [0.0] + [document.text_weight] * (len(ids) + 1)
        ids: list[int] = []
        weights: list[float] = []

        def add(role: str, body: list[int], body_weights: list[float]) -> None:
            head = [BEGIN, *self._roles[role]]
            ids.extend([*head, *body, *self._newline])
            weights.extend([0.0] * len(head) + body_weights + [0.0] * len(self._newline))

        if document.system is not None:
            add("system", *self._silent(document.system))
        for turn in document.turns:
            add("user", *self._silent(turn.user))
            add("assistant", *self._answer(turn))
        return ids, weights

    def _silent(self, text: str) -> tuple[list[int], list[float]]:
        """A text and its end, with loss weights of 0."""
        ids = [*self._ids(text), END]
        return ids, [0.0] * len(ids)

    def _answer(self, turn: Turn) -> tuple[list[int], list[float]]:
        """An answer and its end, with the loss weight of each token."""
        encoding = self._tokenizer.encode(turn.assistant, add_special_tokens=False)
        spans = [match.span() for topic in turn.topics for match in re.finditer(re.escape(topic), turn.assistant)]
        weights = [
            turn.weight * (TOPIC_WEIGHT if any(start < b and a < end for a, b in spans) else 1.0)
            for start, end in encoding.offsets
        ]
        return [*encoding.ids, END], [*weights, turn.weight]

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)


def training_batches(
    encode: Encoder, seed: int, step: int, mix: Mix, *, documents: int, max_tokens: int
) -> list[Batch]:
    """Return step `step` of the training split: `documents` rows, as batches of at most `max_tokens` padded tokens.

    Rows of like length share a batch, so that little is computed for padding; their gradients are added up.
    """
    indices = range(step * documents, (step + 1) * documents)
    rows = sorted((encode(training_document(seed, index, mix)) for index in indices), key=_length)
    return [pad(group) for group in _groups(rows, max_tokens)]


def _length(row: tuple[list[int], list[float]]) -> int:
    return len(row[0])


def _groups(
    rows: list[tuple[list[int], list[float]]], max_tokens: int
) -> Iterator[list[tuple[list[int], list[float]]]]:
    """Cut rows, shortest first, into runs whose padded size stays within `max_tokens`."""
    group: list[tuple[list[int], list[float]]] = []
    for row in rows:
        if group and (len(group) + 1) * _padded(len(row[0])) > max_tokens:
            yield group
            group = []
        group.append(row)
    if group:
        yield group


def _padded(length: int) -> int:
    return -(-length // LENGTH_STEP) * LENGTH_STEP


def pad(rows: list[tuple[list[int], list[float]]]) -> Batch:
    """Stack rows of ids and weights, padded on the right."""
    width = _padded(max(map(_length, rows)))
    input_ids = [ids + [PADDING] * (width - len(ids)) for ids, _ in rows]
    weights = [weights + [0.0] * (width - len(weights)) for _, weights in rows]
    return Batch(torch.tensor(input_ids), torch.tensor(weights))
