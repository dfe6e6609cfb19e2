"""The statistics of a load: tokens a second, times between tokens and to the first token, within a window of time."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

OUTPUT = "output_tokens_per_s"
GAP_P50, GAP_P95, GAP_P99 = "inter_token_p50_ms", "inter_token_p95_ms", "inter_token_p99_ms"
FIRST_P50, FIRST_P95 = "first_token_p50_ms", "first_token_p95_ms"
ANSWERS = "answers_per_s"
TOKENS_PER_EVENT = "tokens_per_event"


@dataclass
class Answer:
    """One answer, as its client saw it; times are of one monotonic clock, in seconds.

    Attributes:
        sent: The time when the request was sent.
        times: The arrival of each event that has text.
        completion_tokens: The number of tokens, by the server's own count; None before the answer's end.
    """

    sent: float
    times: list[float] = field(default_factory=list)
    completion_tokens: int | None = None


def summarize(answers: Sequence[Answer], begin: float, end: float) -> dict[str, float]:
    """What happened between two times.

    A server holds tokens back until their characters are whole, and may send several at once, so tokens a second are
    events a second times the tokens per event of all finished answers. The times to the first token are those of
    requests that were sent in the window: the first requests of all clients come at the same moment, as no later ones.

    Args:
        answers: All answers, from the first request on, unfinished ones included.
        begin: The start of the window, in seconds of the answers' clock.
        end: The end of the window.

    Raises:
        ValueError: The window is too short for a median: fewer than two first tokens or two gaps arrived in it.
    """
    finished = [answer for answer in answers if answer.completion_tokens is not None]
    events = sum(begin <= time < end for answer in answers for time in answer.times)
    first = [1e3 * (x.times[0] - x.sent) for x in answers if x.times and begin <= x.sent and x.times[0] < end]
    gaps = [
        1e3 * (later - earlier)
        for answer in answers
        for earlier, later in zip(answer.times, answer.times[1:], strict=False)
        if begin <= later < end
    ]
    if len(first) < 2 or len(gaps) < 2 or not finished:
        raise ValueError("too few answers for a median; measure for longer")
    tokens_per_event = sum(x.completion_tokens or 0 for x in finished) / sum(len(x.times) for x in finished)
    return {
        OUTPUT: events * tokens_per_event / (end - begin),
        GAP_P50: quantile(gaps, 50),
        GAP_P95: quantile(gaps, 95),
        GAP_P99: quantile(gaps, 99),
        FIRST_P50: quantile(first, 50),
        FIRST_P95: quantile(first, 95),
        ANSWERS: len(first) / (end - begin),
        TOKENS_PER_EVENT: tokens_per_event,
    }


def quantile(values: Sequence[float], percent: int) -> float:
    """A quantile of at least two values, with linear interpolation between the two nearest."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]
