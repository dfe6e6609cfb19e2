"""How far TensorRT's builder is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minimind_edge.runtime.tensorrt.backend import Backend

Progress = Callable[[str, float], None]


class PhaseCount:
    """Turns the phases of a build, one inside the other, into one share of the whole.

    Args:
        progress: Called with the name of the innermost phase and the share that is done, 0 to 1, which never falls.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._open: dict[str, tuple[str | None, int, int]] = {}
        self._done = 0.0

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """A phase of so many steps begins, inside of another one or of none."""
        self._open[name] = (parent, max(steps, 1), 0)
        self._tell(name)

    def step(self, name: str, step: int) -> None:
        """A step of a phase is done; steps count from 0."""
        if name in self._open:
            parent, steps, _ = self._open[name]
            self._open[name] = (parent, steps, min(step + 1, steps))
            self._tell(name)

    def finish(self, name: str) -> None:
        """A phase is done, whether or not all of its steps were."""
        self._open.pop(name, None)

    def _tell(self, name: str) -> None:
        share, inner = 0.0, 0.0
        at: str | None = name
        while at is not None and at in self._open:
            parent, steps, done = self._open[at]
            share = min((done + inner) / steps, 1.0)
            inner, at = share, parent
        self._done = max(self._done, share)
        self._progress(name.lower(), self._done)


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
