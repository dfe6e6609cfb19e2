"""How a candidate is asked: the one interface behind which onnxruntime, a session or an engine runs the graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .case import Chunk

Presents = Sequence[tuple[NDArray[np.floating], NDArray[np.floating]]]
"""(key, value) of each layer, each [B, H_kv, T, D] in the graph's own dtype."""


class RunError(Exception):
    """A candidate could not run a chunk; the comparison counts it as a difference."""


@dataclass(frozen=True)
class StepOutput:
    """What a candidate answers to one chunk.

    Args:
        logits: [B, S, V] float32; [B, V], each row's last real token, from a runner that gives only those.
        experts: The experts chosen in each layer, each [B, S, k] or [B*S, k]; None where they are not to be seen.
    """

    logits: NDArray[Any]
    experts: Sequence[NDArray[np.integer]] | None = None


class GraphRunner(Protocol):
    """A graph with its cache, run chunk by chunk."""

    @property
    def name(self) -> str:
        """For people: the way the graph is run."""
        ...

    @property
    def last_token_only(self) -> bool:
        """Whether `step` gives [B, V] instead of [B, S, V]."""
        ...

    @property
    def counts_positions(self) -> bool:
        """Whether it counts positions by itself, so that it cannot run a case that has its own."""
        ...

    def reset(self, batch_size: int, slots: int) -> None:
        """Forget everything; the next case has `batch_size` rows of `slots` cache slots."""
        ...

    def step(self, chunk: Chunk) -> StepOutput:
        """Run a chunk behind what is cached.

        Raises:
            RunError: The candidate refused or failed.
        """
        ...

    def presents(self) -> Presents | None:
        """The cache as it stands, the slots in use only; None where it is not to be seen."""
        ...
