"""Progress of a long job: the callable that every stage of an export reports to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

Progress: TypeAlias = Callable[[str, float], None]
"""A callable that takes the name of the current stage and the share of the whole job that is done, 0 to 1."""

Share: TypeAlias = Callable[[float], None]
"""A callable that takes the share of one stage that is done, 0 to 1."""


def silent(stage: str, done: float) -> None:
    """Ignore the report: the `Progress` of a job that nobody watches."""


def part(progress: Progress, start: float, stop: float, prefix: str = "") -> Progress:
    """The progress of a job that is a part of a larger one.

    Args:
        progress: The progress of the larger job.
        start: The share of the larger job that is done when the part begins.
        stop: The share of the larger job that is done when the part ends.
        prefix: The text that is put before the name of each of the part's stages.
    """
    return lambda stage, done: progress(f"{prefix}{stage}", start + done * (stop - start))


def parts(progress: Progress, durations: Mapping[str, float]) -> dict[str, Progress]:
    """The progress of each part of a job, whose share of the whole is its share of the time.

    Args:
        progress: The progress of the job.
        durations: The time that each part takes, in any unit, in the order of the parts; more than 0 in all.

    Returns:
        The progress of each part, by its name.
    """
    total, start = sum(durations.values()), 0.0
    found = {}
    for name, duration in durations.items():
        found[name] = part(progress, start / total, (start + duration) / total)
        start += duration
    return found


def stage_share(progress: Progress, stage: str, start: float, stop: float) -> Share:
    """The progress of one stage; its start is reported at once.

    Args:
        progress: The progress of the whole job.
        stage: The stage's name.
        start: The share of the whole job that is done when the stage begins.
        stop: The share of the whole job that is done when the stage ends.
    """
    progress(stage, start)
    return lambda done: progress(stage, start + done * (stop - start))
