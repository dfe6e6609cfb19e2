"""Ending the runs of models from another thread, for programs that react to a signal while a model runs."""

from __future__ import annotations

from typing import Protocol
from weakref import WeakSet


class Interruptible(Protocol):
    """A model whose run can be ended while another thread waits for it."""

    def interrupt(self, *, ends: bool) -> None:
        """End the current run and refuse later ones (`ends`), or allow runs again."""
        ...


_models: WeakSet[Interruptible] = WeakSet()


def register(model: Interruptible) -> None:
    """Add a model, for as long as it is in use, to those that `interrupt_runs` stops."""
    _models.add(model)


def interrupt_runs() -> None:
    """End the runs of all models after their current operator; these runs fail, and so do later ones."""
    for model in list(_models):
        model.interrupt(ends=True)


def allow_runs() -> None:
    """Let models run again."""
    for model in list(_models):
        model.interrupt(ends=False)
