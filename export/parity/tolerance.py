"""How far a graph of each precision may be from eager float32, and why."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..errors import ExportError

HALF_ROUNDOFF = 2.0**-11
"""Largest relative error of rounding to float16."""

ROUNDINGS_PER_LAYER = 12
"""Results of a block that are rounded on their way to the residual stream: norms, q, k, v, scores, mix, o, gate, up,
down and the sums."""

SAFETY = 4.0
"""Over the expected size of a rounding error: the largest of millions lies four to five standard deviations out."""


@dataclass(frozen=True)
class Tolerance:
    """Bounds of one precision. Errors must not exceed theirs, shares must not fall below theirs.

    Args:
        logits_rel: Largest difference of two logits, over the largest |logit| of the case.
        presents_rel: Largest difference of two cached numbers, over the largest |number| of the tensor in the case.
        mean_kl: KL divergence from eager's distribution, nats, mean over all tokens.
        top1: Share of tokens after which both choose the same next one.
        greedy: The same along eager's greedy text.
        experts: Share of choices, one a token and layer, in which both choose the same experts.
        within: Share of tokens that the bounds on single numbers, the first two, have to hold for.
    """

    logits_rel: float
    presents_rel: float
    mean_kl: float
    top1: float
    greedy: float
    experts: float
    within: float

    @property
    def routes_may_differ(self) -> bool:
        """Whether some tokens may take other experts than eager's.

        Where two experts score nearly the same, rounding decides, and another expert's output is another number, not a
        rounded one. Tokens on another route, and those that see them, count for the shares alone.
        """
        return self.experts < 1.0


def tolerance_of(precision: str, num_hidden_layers: int) -> Tolerance:
    """Look up the bounds.

    Args:
        precision: Of the graph, `fp32` or `fp16`.
        num_hidden_layers: L of the model; rounding errors of reduced precision grow with it.

    Raises:
        ExportError: There are no bounds for this precision.
    """
    if precision == "fp32":
        return FP32
    if precision == "fp16":
        return fp16_tolerance(num_hidden_layers)
    raise ExportError(f"no parity bounds for precision {precision!r}: expected fp32 or fp16")


FP32 = Tolerance(
    # Another order of summation moves a logit by some 1e-6 of the largest; what is systematic, by more than 1e-4. That
    # is 1e-3 for logits of up to 10; a bound on the difference itself would be wrong for larger ones, where eager
    # float32 is no nearer to the truth: with SmolLM2-135M's logits of 33 it lies up to 1.6e-3 from eager float64.
    logits_rel=1e-4,
    presents_rel=1e-4,
    # Logits within e of each other bound the divergence by (2 e)^2 / 8 (Hoeffding's lemma): 5e-7 for e = 1e-3.
    mean_kl=5e-7,
    # After random tokens two logits may lie closer together than float32 can tell: no more than 1 in 100.
    top1=0.99,
    # The text itself and the route through the experts are eager's, whatever the margin.
    greedy=1.0,
    experts=1.0,
    within=1.0,
)


def fp16_tolerance(num_hidden_layers: int) -> Tolerance:
    """Bounds of float16 weights, activations and cache, for a model of L layers.

    Each of the `ROUNDINGS_PER_LAYER * L` roundings adds an independent error of up to `HALF_ROUNDOFF`; independent
    errors add up as the root of their number, here with `SAFETY` over it: 0.010 for 2 layers, 0.019 for 8, 0.037 for
    30. What such errors do to the choice among tokens and experts is bounded by the shares.
    """
    relative = SAFETY * HALF_ROUNDOFF * math.sqrt(ROUNDINGS_PER_LAYER * num_hidden_layers)
    return Tolerance(
            logits_rel=relative,
            presents_rel=relative,
        # Half the variance of the logits' errors: 1e-4 for errors of 0.5 % and logits that spread by 3; ten times that.
        mean_kl=1e-3,
        # A choice flips where the margin is below the errors; 0.5 % errors against the mean margin of random logits,
        # a quarter of their spread, flip 2 in 100. Trained models have wider margins.
        top1=0.95,
        greedy=0.95,
        # Router scores carry errors of 0.5 % as well; with four experts fewer than 1 choice in 100 is as close as that.
        experts=0.98,
        # Few tokens amplify rounding: where it decides whether a token becomes one that all others attend to, its state
        # is another one. In SmolLM2-135M, 30 layers, random tokens: errors of 0.11 at some, mean KL 5e-4 over all.
        within=0.95,
    )
