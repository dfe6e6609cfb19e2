"""Measuring speed in rounds over all contenders, so that a slow minute of the machine slows all of them alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from time import perf_counter, sleep

from .failure import Unmeasurable
from .preparation import Prepared
from .row import DECODE, DECODE_ONE, DISK, FIRST_TOKEN, MEMORY, PREFILL, PREFILL_ONE, Row
from .worker import Worker

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """The number of measurements, and the lengths of prompts and generations.

    Attributes:
        rounds: The number of measurements of each speed.
        starts: The number of fresh processes of each contender.
        threads: The number of CPU threads.
        one_thread: Whether the speeds on one thread are measured as well; with `threads` 1 they are the same.
        prompt_tokens: The prompt's length in a generation, in tokens.
        new_tokens: The number of tokens generated after the prompt.
        prefill_tokens: The length of the prompt whose prefill is measured, in tokens.
        short_prompt: The prompt's length in a fresh process, in tokens.
        pause_s: The seconds of rest before each contender: the threads of the one before keep their cores busy for up
            to 0.1 s, waiting for work.
    """

    rounds: int = 9
    starts: int = 5
    threads: int = 2
    one_thread: bool = True
    prompt_tokens: int = 128
    new_tokens: int = 128
    prefill_tokens: int = 512
    short_prompt: int = 16
    pause_s: float = 0.3


def measure(entries: Sequence[tuple[Row, Prepared]], plan: Plan, progress: Progress) -> None:
    """Measure all contenders on one model; the reason for a missing measurement goes into its row.

    Args:
        entries: The rows to fill, each with the prepared contender.
        plan: The number and size of the measurements.
        progress: Called with the name of each stage.
    """
    for row, prepared in entries:
        row.add(DISK, prepared.disk_bytes())
    for number in range(plan.starts):
        progress(f"fresh process {number + 1} of {plan.starts}")
        for row, prepared in turned(entries, number):
            if FIRST_TOKEN not in row.missing:
                measure_start(row, prepared, plan)
    measure_rounds(entries, plan, progress)
    if plan.one_thread and plan.threads != 1:
        measure_rounds(entries, replace(plan, threads=1), progress, (DECODE_ONE, PREFILL_ONE))


def measure_rounds(
    entries: Sequence[tuple[Row, Prepared]],
    plan: Plan,
    progress: Progress,
    quantities: tuple[str, str] = (DECODE, PREFILL),
) -> None:
    """Measure all rounds on the plan's threads; `quantities` names the speed of decode and that of prefill."""
    with ExitStack() as stack:
        sound = [(row, prepared) for row, prepared in entries if quantities[0] not in row.missing]
        alive = start_all(sound, plan, stack, quantities)
        for number in range(plan.rounds):
            progress(f"round {number + 1} of {plan.rounds}, threads: {plan.threads}")
            for row, worker in turned(alive, number):
                if quantities[0] not in row.missing:
                    measure_speed(row, worker, plan, quantities)


def turned(entries: Sequence, number: int) -> list:
    """The entries in this round's order: each round begins with another one."""
    start = number % len(entries) if entries else 0
    return [*entries[start:], *entries[:start]]


def start_all(
    entries: Sequence[tuple[Row, Prepared]], plan: Plan, stack: ExitStack, quantities: tuple[str, str]
) -> list[tuple[Row, Worker]]:
    """Start a worker for each entry; `stack` closes them."""
    alive = []
    for row, prepared in entries:
        try:
            worker = stack.enter_context(prepared.start(plan.threads))
            worker.wait_loaded()
        except Unmeasurable as reason:
            row.give_up(str(reason), quantities)
        else:
            alive.append((row, worker))
    return alive


def measure_speed(row: Row, worker: Worker, plan: Plan, quantities: tuple[str, str]) -> None:
    """Measure one round of one contender, after a short generation that warms it up."""
    decode, prefill = quantities
    sleep(plan.pause_s)
    try:
        worker.ask("generate", prompt_tokens=plan.short_prompt, new_tokens=plan.short_prompt)
        answer = worker.ask("generate", prompt_tokens=plan.prompt_tokens, new_tokens=plan.new_tokens)
        row.add(decode, (plan.new_tokens - 1) / answer["rest_s"])
        answer = worker.ask("generate", prompt_tokens=plan.prefill_tokens, new_tokens=1)
        row.add(prefill, plan.prefill_tokens / answer["first_token_s"])
    except Unmeasurable as reason:
        row.give_up(str(reason), quantities)


def measure_start(row: Row, prepared: Prepared, plan: Plan) -> None:
    """Measure one fresh process: the time to its first token, and its peak memory after a whole generation."""
    started = perf_counter()
    try:
        with prepared.start(plan.threads) as worker:
            worker.ask("generate", prompt_tokens=plan.short_prompt, new_tokens=1)
            row.add(FIRST_TOKEN, perf_counter() - started)
            worker.ask("generate", prompt_tokens=plan.prompt_tokens, new_tokens=plan.new_tokens)
            row.add(MEMORY, worker.ask("memory")["peak_rss_bytes"])
    except Unmeasurable as reason:
        row.give_up(str(reason), (FIRST_TOKEN, MEMORY))
