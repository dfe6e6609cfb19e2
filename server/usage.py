"""The usage of a request: the numbers of tokens that it read and wrote."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minimind_edge.runtime.batch.request import Ticket


def usage(tickets: Sequence[Ticket], answers_per_prompt: int, reasoning_tokens: int | None = None) -> dict[str, Any]:
    """The object `usage` of a response; a prompt with several answers counts once.

    Args:
        tickets: The requests to the batch, prompt by prompt.
        answers_per_prompt: Number of answers of each prompt.
        reasoning_tokens: Number of tokens inside think blocks; None where the endpoint knows no reasoning.
    """
    firsts = tickets[::answers_per_prompt]
    prompt_tokens = sum(len(ticket.request.prompt.token_ids) for ticket in firsts)
    completion_tokens = sum(len(ticket.token_ids) for ticket in tickets)
    counted: dict[str, Any] = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": sum(ticket.cached_tokens for ticket in firsts)},
    }
    if reasoning_tokens is not None:
        counted["completion_tokens_details"] = {"reasoning_tokens": reasoning_tokens}
    return counted
