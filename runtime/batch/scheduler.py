"""The scheduler of continuous batching: which tokens run in the next step, and what becomes of each request."""

from __future__ import annotations

from typing import NamedTuple


class BatchCounts(NamedTuple):
    """What a batch has done so far and does now.

    Attributes:
        running: Requests that have a slot.
        waiting: Requests that wait for one.
        slots: Slots there are.
        kv_positions: Positions of the KV cache that running requests use.
        kv_capacity: Positions of the KV cache there are.
        stored_bytes: Bytes of the stored prefixes of finished requests.
        prompt_tokens: Tokens of all prompts so far whose requests got a slot, cached ones included.
        cached_tokens: Tokens of these whose positions were copied instead of run.
        generated_tokens: Tokens of all answers so far.
        steps: Number of steps so far.
        step_s: Seconds that these took.
        model_s: Seconds of these inside the model's own runs.
    """

    running: int
    waiting: int
    slots: int
    kv_positions: int
    kv_capacity: int
    stored_bytes: int
    prompt_tokens: int
    cached_tokens: int
    generated_tokens: int
    steps: int
    step_s: float
    model_s: float
