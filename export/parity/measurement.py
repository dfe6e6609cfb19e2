"""What one case gave through one runner."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .case import Case
from .divergence import TokenErrors, joined

Flags = NDArray[np.bool_]

TINY = 1e-30
"""Stands in for a scale of 0: a difference from nothing but zeros is a large one, and still a finite number."""


@dataclass(frozen=True)
class TensorError:
    """The largest difference in one cached tensor.

    Args:
        max_abs: Over all comparable slots.
        scale: The largest |number| in eager's tensor.
    """

    max_abs: float
    scale: float

    @property
    def max_rel(self) -> float:
        """The difference over the scale."""
        return self.max_abs / max(self.scale, TINY)


@dataclass(frozen=True)
class LayerErrors:
    """The cached tensors of one layer."""

    key: TensorError
    value: TensorError


@dataclass(frozen=True)
class Measurement:
    """What was measured, or why nothing was.

    Args:
        case: The case's name.
        runner: The runner's name.
        errors: Of the N compared tokens.
        comparable: [N], the tokens whose single numbers can be compared: all, or those that took eager's route.
        greedy: [N], the tokens of eager's greedy text.
        layers: Of the cache; empty where the runner does not show it.
        same_experts: Of each layer whether a token's experts are eager's, each [n]; empty where not to be seen.
        defect: Not None: nothing was measured, for this reason.
    """

    case: str
    runner: str
    errors: TokenErrors
    comparable: Flags
    greedy: Flags
    layers: tuple[LayerErrors, ...] = ()
    same_experts: tuple[Flags, ...] = ()
    defect: str | None = None

    @classmethod
    def failed(cls, case: Case, runner: str, defect: str) -> Measurement:
        """Nothing was measured."""
        nothing = np.zeros(0, dtype=np.bool_)
        return cls(case.name, runner, joined(()), nothing, nothing, defect=defect)

    @property
    def tokens(self) -> int:
        """Compared tokens, N."""
        return len(self.errors.kl)

    @property
    def comparable_errors(self) -> TokenErrors:
        """Of the comparable tokens."""
        return self.errors.take(self.comparable)

    @property
    def logits(self) -> TensorError:
        """The largest difference in the comparable tokens' logits."""
        largest = self.comparable_errors.max_abs.max(initial=0.0)
        return TensorError(float(largest), float(self.errors.scale.max(initial=0.0)))
