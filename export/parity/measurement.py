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
    """The differences in one tensor, token by token.

    Args:
        absolute: The largest one of each comparable token, [N] float64.
        scale: The largest |number| of eager's tensor.
    """

    absolute: NDArray[np.float64]
    scale: float

    @property
    def relative(self) -> NDArray[np.float64]:
        """The differences over the scale, [N]."""
        return self.absolute / max(self.scale, TINY)

    @property
    def max_abs(self) -> float:
        """The largest difference; 0 where no token is comparable."""
        return float(self.absolute.max(initial=0.0))

    @property
    def max_rel(self) -> float:
        """The largest difference over the scale."""
        return float(self.relative.max(initial=0.0))


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
        case_comparable: The same of all of the case's tokens, in their order, compared or not.
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
    case_comparable: Flags | None = None

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
        """The differences in the logits."""
        return TensorError(self.comparable_errors.max_abs, float(self.errors.scale.max(initial=0.0)))

    @property
    def presents(self) -> list[TensorError]:
        """The cached tensors, key and value of layer 0 first."""
        return [tensor for layer in self.layers for tensor in (layer.key, layer.value)]
