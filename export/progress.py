"""How far a long job is: the one callable that every stage of an export tells it to."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

Progress: TypeAlias = Callable[[str, float], None]
"""Called with the name of the current stage and the share of the whole job that is done, 0 to 1."""

Share: TypeAlias = Callable[[float], None]
"""Called with the share of one stage that is done, 0 to 1."""


def silent(stage: str, done: float) -> None:
    """Tell nobody: the `Progress` of a job that nobody watches."""


def part(progress: Progress, start: float, stop: float, prefix: str = "") -> Progress:
    """The progress of a job that is a part of a larger one.

    Args:
        progress: Of the larger job.
        start: Share of the larger job that is done when the part begins.
        stop: Share that is done when the part ends.
        prefix: Put before the name of each of the part's stages.
    """
    return lambda stage, done: progress(f"{prefix}{stage}", start + done * (stop - start))


def stage_share(progress: Progress, stage: str, start: float, stop: float) -> Share:
    """The progress of one stage, which is told to begin at once.

    Args:
        progress: Of the whole job.
        stage: The stage's name.
        start: Share of the whole that is done when the stage begins.
        stop: Share that is done when the stage ends.
    """
    progress(stage, start)
    return lambda done: progress(stage, start + done * (stop - start))
