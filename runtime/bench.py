"""How fast a session is on this machine: prefill, decode, the first token, and what the Python loop adds to a step."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .decode import DecodeTimings, generate
from .errors import UsageError
from .sampling import SamplingParams
from .session.session import Session

SEED = 0


@dataclass(frozen=True)
class BenchPlan:
    """What to measure.

    Attributes:
        prompt_tokens: lengths of the prompts, one row of results each.
        new_tokens: tokens generated behind each prompt, at least 2: the first one belongs to the prefill.
        batch: rows generated at once.
        runs: measured runs of each row, behind one run to warm up.

    Raises:
        UsageError: a number is too small.
    """

    prompt_tokens: tuple[int, ...] = (128, 512)
    new_tokens: int = 128
    batch: int = 1
    runs: int = 5

    def __post_init__(self) -> None:
        if not self.prompt_tokens or min(self.prompt_tokens) < 1:
            raise UsageError("prompt_tokens needs one or more lengths, each at least 1")
        for name, least in (("new_tokens", 2), ("batch", 1), ("runs", 1)):
            if getattr(self, name) < least:
                raise UsageError(f"{name} is {getattr(self, name)}: it must be at least {least}")


class Spread(NamedTuple):
    """A quantity over several runs."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Summarize at least one value."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class BenchRow:
    """What was measured for one length of prompt.

    Attributes:
        prompt_tokens: tokens of each prompt.
        new_tokens: tokens generated behind it.
        batch: rows at once.
        runs: measured runs.
        quantities: `prefill_tokens_per_s` and `decode_tokens_per_s` of all rows of the batch together;
            `time_to_first_token_s`; `step_s`, one decode step; `step_overhead_s`, the part of it that is not spent
            inside the model's own run; `step_overhead_share`, that part of `step_s`.
    """

    prompt_tokens: int
    new_tokens: int
    batch: int
    runs: int
    quantities: dict[str, Spread]

    def to_json(self) -> dict[str, Any]:
        """A JSON object: each quantity's median under its name, and its range as `NAME_range`."""
        fields: dict[str, Any] = {
            "prompt_tokens": self.prompt_tokens,
            "new_tokens": self.new_tokens,
            "batch": self.batch,
            "runs": self.runs,
        }
        for name, spread in self.quantities.items():
            fields[name] = spread.median
            fields[f"{name}_range"] = [spread.low, spread.high]
        return fields


def measure(
    session: Session,
    plan: BenchPlan,
    run_seconds: Callable[[], float],
    progress: Callable[[str, float], None] = lambda stage, done: None,
) -> list[BenchRow]:
    """Run the plan, greedy, on random tokens; each round runs every row once, so that noise meets all of them.

    Args:
        session: what to measure.
        plan: how.
        run_seconds: tells the seconds that the session has spent inside the model's own run so far.
        progress: called with a stage's name and the share of the whole that is done, 0 to 1.

    Raises:
        UsageError: a prompt and what is generated behind it are longer than the session can hold.
    """
    longest = max(plan.prompt_tokens) + plan.new_tokens
    if longest > session.max_length:
        raise UsageError(
            f"{longest} tokens (prompt and new ones) are more than the context of {session.max_length}: measure fewer"
        )
    rounds = [{length: _run(session, plan, length, run_seconds) for length in plan.prompt_tokens}]
    for number in range(plan.runs):
        progress(f"run {number + 1} of {plan.runs}", number / plan.runs)
        rounds.append({length: _run(session, plan, length, run_seconds) for length in plan.prompt_tokens})
    del rounds[0]
    return [_row(plan, length, [each[length] for each in rounds]) for length in plan.prompt_tokens]


def _run(session: Session, plan: BenchPlan, prompt_tokens: int, run_seconds: Callable[[], float]) -> dict[str, float]:
    """One generation; its quantities by name."""
    prompts = np.random.default_rng(SEED).integers(0, session.vocab_size, (plan.batch, prompt_tokens))
    generation = generate(session, list(prompts), SamplingParams(greedy=True), plan.new_tokens)
    next(generation)
    inside_before = run_seconds()
    for _ in generation:
        pass
    inside = run_seconds() - inside_before
    return _quantities(plan, prompt_tokens, generation.timings, inside)


def _quantities(plan: BenchPlan, prompt_tokens: int, timings: DecodeTimings, inside: float) -> dict[str, float]:
    """Speeds of one run; `inside` is the seconds of the decode steps spent in the model's own run."""
    overhead = timings.decode_s - inside
    return {
        "prefill_tokens_per_s": plan.batch * prompt_tokens / timings.prefill_s,
        "decode_tokens_per_s": plan.batch * timings.decode_steps / timings.decode_s,
        "time_to_first_token_s": timings.time_to_first_token_s,
        "step_s": timings.decode_s / timings.decode_steps,
        "step_overhead_s": overhead / timings.decode_steps,
        "step_overhead_share": overhead / timings.decode_s,
    }


def _row(plan: BenchPlan, prompt_tokens: int, runs: list[dict[str, float]]) -> BenchRow:
    quantities = {name: Spread.of([run[name] for run in runs]) for name in runs[0]}
    return BenchRow(prompt_tokens, plan.new_tokens, plan.batch, plan.runs, quantities)
