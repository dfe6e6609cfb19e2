"""How far TensorRT's builder is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from minimind_edge.runtime.tensorrt.backend import Backend

Progress = Callable[[str, float], None]


class PhaseCount:
    """Turns the phases of a build, one inside the other, into one share of the whole.

    Args:
        progress: Called with the name of the outermost phase but one (the outermost is the build itself) and the share
            that is done, 0 to 1, which never falls.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._open: dict[str, _Phase] = {}
        self._done = 0.0
        self._stage = "building the plan"

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """A phase of so many steps begins, inside of another one or of none."""
        self._open[name] = _Phase(parent, max(steps, 1))
        self._tell(name)

    def step(self, name: str, step: int) -> None:
        """A step of a phase is done; steps count from 0."""
        if name in self._open:
            self._open[name].done = step + 1
            self._tell(name)

    def finish(self, name: str) -> None:
        """A phase is done, whether or not all of its steps were."""
        self._open.pop(name, None)

    def _tell(self, name: str) -> None:
        share, path = 0.0, [name]
        while (phase := self._open.get(path[-1])) is not None:
            share = min((phase.done + share) / phase.steps, 1.0)
            if phase.parent is None or phase.parent in path:
                break
            path.append(phase.parent)
        if len(path) > 1:
            self._stage = path[-2].lower()
        self._done = max(self._done, share)
        self._progress(self._stage, self._done)


@dataclass
class _Phase:
    parent: str | None
    steps: int
    done: int = 0


def progress_monitor(backend: Backend, progress: Progress) -> Any:
    """A monitor for a build, to be kept for as long as the build's objects live.

    Args:
        backend: Gives the class to derive from.
        progress: Called with a phase's name and the share of the build that is done.
    """
    count = PhaseCount(progress)

    class Monitor(backend.module.IProgressMonitor):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            count.start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            count.step(phase_name, step)
            return True

        def phase_finish(self, phase_name: str) -> None:
            count.finish(phase_name)

    return Monitor()
