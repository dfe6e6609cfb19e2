"""The examples that a likelihood is measured on: tokens of which the first are context and the rest are predicted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from minimind_edge.runtime.errors import PromptError

if TYPE_CHECKING:
    from minimind_edge.runtime.session.model import TokenIds
    from minimind_edge.runtime.text.prompt import PromptBuilder
    from minimind_edge.runtime.text.tokenizer import Tokenizer

WINDOW = 512
"""The most tokens of a text that are predicted with each other as context."""

BATCH_SIZE = 64
"""The most examples that are run together."""


@dataclass(frozen=True)
class Document:
    """A chat of one turn, of which the answer is predicted."""

    prompt: str
    answer: str


@dataclass(frozen=True)
class Example:
    """A text in tokens.

    Args:
        token_ids: Context and predicted tokens, at least two.
        context_length: How many of the first tokens are given, at least 1; the others are predicted.
    """

    token_ids: tuple[int, ...]
    context_length: int

    @property
    def predicted(self) -> int:
        """The number of predicted tokens."""
        return len(self.token_ids) - self.context_length


@dataclass(frozen=True)
class Batch:
    """Examples of similar length, padded on the right, where padding changes nothing for the tokens before it.

    Args:
        token_ids: [B, S] int64.
        lengths: The number of real tokens of each row, [B] int64.
        predicted: Whether a slot has a predicted token, [B, S] bool.
    """

    token_ids: TokenIds
    lengths: TokenIds
    predicted: NDArray[np.bool_]


def document_examples(
    documents: Iterable[Document], prompts: PromptBuilder, tokenizer: Tokenizer, end: int
) -> list[Example]:
    """Each document as a chat in the model's template; the answer and the token that ends it are predicted.

    Args:
        documents: At least one.
        prompts: The builder of the model's prompts.
        tokenizer: The model's tokenizer.
        end: The token that ends an answer.
    """
    examples = []
    for document in documents:
        prompt = prompts.build(document.prompt).token_ids
        answer = tokenizer.encode(document.answer, add_special_tokens=False)
        examples.append(Example((*prompt, *answer, end), len(prompt)))
    return examples


def text_examples(text: str, tokenizer: Tokenizer, window: int = WINDOW) -> list[Example]:
    """Cut a text into windows, each after the token that begins a text; without such a token the first one is context.

    Args:
        text: A text of any length.
        tokenizer: The model's tokenizer.
        window: The most tokens of an example, at least 2.

    Raises:
        PromptError: The text is too short to predict anything in it.
    """
    begin = () if tokenizer.bos_token_id is None else (tokenizer.bos_token_id,)
    token_ids = tokenizer.encode(text, add_special_tokens=False)
    step = window - len(begin)
    windows = [(*begin, *token_ids[start : start + step]) for start in range(0, len(token_ids), step)]
    examples = [Example(window, 1) for window in windows if len(window) > 1]
    if not examples:
        raise PromptError("the text has no token to predict: expected some text")
    return examples


def batches(examples: Sequence[Example], batch_size: int = BATCH_SIZE) -> Iterator[Batch]:
    """Put examples of similar length into batches, shortest first.

    Args:
        examples: At least one.
        batch_size: The most examples of a batch.
    """
    ordered = sorted(examples, key=lambda example: len(example.token_ids))
    for start in range(0, len(ordered), batch_size):
        yield _padded(ordered[start : start + batch_size])


def _padded(examples: Sequence[Example]) -> Batch:
    lengths = np.array([len(example.token_ids) for example in examples])
    token_ids = np.zeros((len(examples), lengths.max()), np.int64)
    predicted = np.zeros(token_ids.shape, np.bool_)
    for index, example in enumerate(examples):
        token_ids[index, : len(example.token_ids)] = example.token_ids
        predicted[index, example.context_length : len(example.token_ids)] = True
    return Batch(token_ids, lengths, predicted)
