"""What every session demands of the tokens that it is given."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import ContextLengthError, PromptError, UsageError
from .session import TokenIds


def check_prompt(
    input_ids: TokenIds, attention_mask: TokenIds | None, vocab_size: int
) -> tuple[TokenIds, NDArray[np.bool_]]:
    """Check a chunk of a prompt.

    Args:
        input_ids: `[B, S]` of any integer type.
        attention_mask: `[B, S]` of 0 and 1, None where no token is padding.
        vocab_size: Ids are less.

    Returns:
        The ids, and where they are no padding, both `[B, S]`.

    Raises:
        PromptError: A shape, a mask value or an id is out of range.
    """
    if input_ids.ndim != 2 or not input_ids.size or input_ids.dtype.kind not in "iu":
        raise PromptError(
            f"expected token ids [B, S] with at least one token, found {input_ids.dtype} {input_ids.shape}"
        )
    check_ids(int(input_ids.min()), int(input_ids.max()), vocab_size)
    if attention_mask is None:
        return input_ids, np.ones(input_ids.shape, np.bool_)
    if attention_mask.shape != input_ids.shape or not np.isin(attention_mask, (0, 1)).all():
        raise PromptError(f"expected an attention mask of 0 and 1 with shape {input_ids.shape}")
    return input_ids, attention_mask.astype(np.bool_)


def check_step(tokens: TokenIds, batch_size: int, vocab_size: int) -> None:
    """Check the tokens of a decode step.

    Raises:
        PromptError: The shape or an id is out of range.
    """
    if tokens.shape != (batch_size,) or tokens.dtype.kind not in "iu":
        raise PromptError(f"expected {batch_size} token ids, found {tokens.dtype} {tokens.shape}")
    ids = tokens.tolist()
    check_ids(min(ids), max(ids), vocab_size)


def check_ids(least: int, greatest: int, vocab_size: int) -> None:
    """Check the least and the greatest of some token ids.

    Raises:
        PromptError: One is outside of the vocabulary.
    """
    if least < 0 or greatest >= vocab_size:
        raise PromptError(
            f"token id {least if least < 0 else greatest} is outside of the vocabulary of {vocab_size} tokens"
        )


def check_room(length: int, count: int, max_length: int, remedy: str) -> None:
    """Check that `count` more tokens fit behind `length`.

    Raises:
        ContextLengthError: They do not.
    """
    if length + count > max_length:
        raise ContextLengthError(
            f"{count} more tokens behind {length} cached positions exceed the maximum of {max_length}; "
            f"shorten the prompt, or {remedy}"
        )


def check_positive(name: str, value: int | None) -> None:
    """Check a number that may be left out.

    Raises:
        UsageError: It is less than 1.
    """
    if value is not None and value < 1:
        raise UsageError(f"{name} must be at least 1, found {value}")
