"""Ending what models compute, from another thread: for programs that must react to a signal while a model runs."""

from __future__ import annotations

from typing import Protocol
from weakref import WeakSet


class Interruptible(Protocol):
    """A model whose run can be ended while another thread waits for it."""

    def interrupt(self, *, ends: bool) -> None:
        """End the run under way and refuse the ones after it, or allow runs again."""
        ...


_models: WeakSet[Interruptible] = WeakSet()


def register(model: Interruptible) -> None:
    """Have a model take part for as long as it is in use."""
    _models.add(model)


def interrupt_runs() -> None:
    """End the runs of all models as soon as their present operator is done; they fail, as do those after them."""
    for model in list(_models):
        model.interrupt(ends=True)


def allow_runs() -> None:
    """Let models run again."""
    for model in list(_models):
        model.interrupt(ends=False)
