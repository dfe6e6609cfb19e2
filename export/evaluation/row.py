"""What a model predicts when its likelihood is measured: rows of tokens, each from some token on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from minimind_edge.runtime.errors import PromptError

from .held_out import Document

if TYPE_CHECKING:
    from minimind_edge.runtime.session.model import TokenIds
    from minimind_edge.runtime.text.prompt import PromptBuilder
    from minimind_edge.runtime.text.tokenizer import Tokenizer

WINDOW = 512
"""Most tokens of a text that are predicted with each other as context."""

ROWS = 64
"""Rows that are run together."""


@dataclass(frozen=True)
class Row:
    """Tokens in a row.

    Args:
        token_ids: At least two.
        first: Index of the first token that is predicted, at least 1; the ones before are given.
    """

    token_ids: tuple[int, ...]
    first: int

    @property
    def predicted(self) -> int:
        """How many tokens are predicted."""
        return len(self.token_ids) - self.first


@dataclass(frozen=True)
class Batch:
    """Rows of like length, padded on the right: what is behind a token changes nothing for it.

    Args:
        token_ids: [B, S] int64.
        lengths: Each row's real tokens, [B] int64.
        predicted: [B, S], where a token is predicted.
    """

    token_ids: TokenIds
    lengths: TokenIds
    predicted: NDArray[np.bool_]


def document_rows(documents: Iterable[Document], prompts: PromptBuilder, tokenizer: Tokenizer, end: int) -> list[Row]:
    """Each document as a chat by the model's template; the answer is predicted, and that it ends.

    Args:
        documents: At least one.
        prompts: Renders what the user says.
        tokenizer: Of the model.
        end: The token that ends an answer.
    """
    rows = []
    for document in documents:
        prompt = prompts.build(document.prompt).token_ids
        answer = tokenizer.encode(document.answer, add_special_tokens=False)
        rows.append(Row((*prompt, *answer, end), len(prompt)))
    return rows


def text_rows(text: str, tokenizer: Tokenizer, window: int = WINDOW) -> list[Row]:
    """A text in windows, each behind the token that begins a text; without such a token, all but the first one count.

    Args:
        text: Of any length.
        tokenizer: Of the model.
        window: Most tokens of a row, at least 2.

    Raises:
        PromptError: The text is too short to predict anything in it.
    """
    begin = () if tokenizer.bos_token_id is None else (tokenizer.bos_token_id,)
    token_ids = tokenizer.encode(text, add_special_tokens=False)
    step = window - len(begin)
    windows = [(*begin, *token_ids[start : start + step]) for start in range(0, len(token_ids), step)]
    rows = [Row(window, 1) for window in windows if len(window) > 1]
    if not rows:
        raise PromptError("the text has no token to predict: expected some text")
    return rows


def batches(rows: Sequence[Row], most_rows: int = ROWS) -> Iterator[Batch]:
    """Rows in batches of like length, shortest first.

    Args:
        rows: At least one.
        most_rows: Rows of a batch.
    """
    ordered = sorted(rows, key=lambda row: len(row.token_ids))
    for start in range(0, len(ordered), most_rows):
        yield _padded(ordered[start : start + most_rows])


def _padded(rows: Sequence[Row]) -> Batch:
    lengths = np.array([len(row.token_ids) for row in rows])
    token_ids = np.zeros((len(rows), lengths.max()), np.int64)
    predicted = np.zeros(token_ids.shape, np.bool_)
    for index, row in enumerate(rows):
        token_ids[index, : len(row.token_ids)] = row.token_ids
        predicted[index, row.first : len(row.token_ids)] = True
    return Batch(token_ids, lengths, predicted)
