"""How far a graph of each precision may be from eager float32, and why."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from ..errors import ExportError

HALF_ROUNDOFF = 2.0**-11
"""Largest relative error of rounding to float16."""

BFLOAT16_ROUNDOFF = 2.0**-8
"""Largest relative error of rounding to bfloat16, eight times float16's."""

ROUNDINGS_PER_LAYER = 12
"""Results of a block that are rounded on their way to the residual stream: norms, q, k, v, scores, mix, o, gate, up,
down and the sums."""

PRODUCTS_PER_LAYER = 7
"""Results of a block that come from quantized weights: q, k, v, o, gate, up, down."""

INT8_ERROR = 0.01
"""Standard error of a product by an int8 weight, over its size: a step is the largest of a few hundred weights, 3.5 to
4 standard deviations, over 127, and the error of rounding is a step over the root of 12."""

INT4_ERROR = 0.09
"""The same by an int4 weight: the largest of 32 weights, 2.2 standard deviations, over 7, and the root of 12 again."""

ACTIVATION_ERROR = 0.005
"""Standard error of an activation that ONNX Runtime rounds to eight bits: a step is the largest of 32, 2.2 standard
deviations, over 127, and the root of 12; that of a product has as many terms as it averages, over its size the same."""

CACHE_ERROR = 0.012
"""Standard error of a number that is cached in eight bits, over the spread of its channel: a step is 1.25 of the
largest of a few thousand, four standard deviations, over 127, and the root of 12 once more."""

SCORE_SPREAD = 3.0
"""Standard deviation of a query's scores, where attention chooses: the softmax of less is nearly even."""

ATTENTION_ERROR = CACHE_ERROR * math.hypot(1.0, SCORE_SPREAD)
"""The same of what attention mixes, where it attends to one value alone: the value's own error, and that of its weight,
which has the score's. A score's error has as many terms as the score, so that over its spread it is `CACHE_ERROR`."""

LOGIT_SPREAD = 3.0
"""Standard deviation of a token's logits, such as trained models have it."""

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
        precision: Of the graph.
        num_hidden_layers: L of the model; rounding errors of reduced precision grow with it.

    Raises:
        ExportError: There are no bounds for this precision.
    """
    if precision == "fp32":
        return FP32
    if precision not in REDUCED:
        raise ExportError(f"no parity bounds for precision {precision!r}: expected fp32 or {' or '.join(REDUCED)}")
    return REDUCED[precision](num_hidden_layers)


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


def bf16_tolerance(num_hidden_layers: int) -> Tolerance:
    """Bounds of bfloat16 weights, activations and cache: float16's with errors eight times as large.

    0.077 for 2 layers, 0.15 for 8, 0.30 for 30.
    """
    relative = SAFETY * BFLOAT16_ROUNDOFF * math.sqrt(ROUNDINGS_PER_LAYER * num_hidden_layers)
    return Tolerance(
        logits_rel=relative,
        presents_rel=relative,
        # Half the variance of the logits' errors: 7e-3 for errors of 4 % and logits that spread by 3.
        mean_kl=1e-2,
        # Eight times float16's 2 in 100 flip, or fewer, as an error of several logits together flips but one choice.
        top1=0.84,
        greedy=0.84,
        # Eight times as many choices as float16's 1 in 100 are as close as the errors.
        experts=0.92,
        # As for float16: few tokens amplify rounding.
        within=0.95,
    )


def int8_tolerance(num_hidden_layers: int) -> Tolerance:
    """Bounds of int8 weights, a scale for each output, with float16 for all else; the reference is the float32 model.

    The error is the weights', the same in every run: each of the `PRODUCTS_PER_LAYER * L` products adds an independent
    one of `INT8_ERROR`, with `SAFETY` over their root: 0.15 for 2 layers, 0.30 for 8, 0.58 for 30.
    """
    relative = SAFETY * INT8_ERROR * math.sqrt(PRODUCTS_PER_LAYER * num_hidden_layers)
    return Tolerance(
        logits_rel=relative,
        presents_rel=relative,
        # Half the variance of the logits' errors: 0.006 for 2 layers, 0.025 for 8.
        mean_kl=_weight_error_kl(INT8_ERROR, num_hidden_layers),
        # Random logits with errors of 4 % flip 16 in 100, as in bfloat16; 64 tokens differ from that by up to 14 (three
        # standard deviations), since here the errors of neighbours go together. Trained models have wider margins.
        top1=0.70,
        greedy=0.70,
        # As many choices of an expert are as close as the errors as in bfloat16; one that flips takes later ones along.
        experts=0.85,
        within=0.95,
    )


def int4_tolerance(num_hidden_layers: int) -> Tolerance:
    """Bounds of int4 weights, a scale for each block of 32 inputs; the reference is the float32 model.

    A step is the block's largest weight over 7 where int8's is the channel's over 127: errors are nine times as large.
    That a graph computes what its integers say has bounds as narrow as float16's, but only a model
    with the same rounded weights can show it; here are bounds for what is lost to rounding.
    """
    return Tolerance(
        # `int8_tolerance` times nine is more than the logits themselves: single numbers prove nothing.
        logits_rel=math.inf,
        presents_rel=math.inf,
        # Some eighty times int8's, but never more than 1 nat: a model that has lost more is of no use.
        mean_kl=min(1.0, _weight_error_kl(INT4_ERROR, num_hidden_layers)),
        # Errors of 40 % leave random logits a fraction of their choices, trained models most; chance is 1 in V.
        top1=0.25,
        greedy=0.25,
        # With four experts, chance leaves 1 choice of 4, or of 6 pairs.
        experts=0.60,
        within=0.95,
    )


def rounded_weights_tolerance(num_hidden_layers: int) -> Tolerance:
    """Bounds for a graph of integers against the model of the very weights that they stand for.

    What is left is the rounding of activations, which ONNX Runtime does for products by integers (accuracy level 4):
    each of the `PRODUCTS_PER_LAYER * L` adds an independent `ACTIVATION_ERROR`, with `SAFETY` over their root: 0.075
    for 2 layers, 0.15 for 8, 0.29 for 30. A zero point, a scale or half a byte in another's place moves logits by more
    than their size.
    """
    relative = SAFETY * ACTIVATION_ERROR * math.sqrt(PRODUCTS_PER_LAYER * num_hidden_layers)
    return Tolerance(
        logits_rel=relative,
        presents_rel=relative,
        # Half the variance of the logits' errors: 0.0016 for 2 layers, 0.006 for 8, 0.024 for 30.
        mean_kl=_weight_error_kl(ACTIVATION_ERROR, num_hidden_layers),
        # Errors of half of int8's weights: they flip half as many choices.
        top1=0.84,
        greedy=0.84,
        experts=0.92,
        # As for float16: few tokens amplify rounding.
        within=0.95,
    )


def int8_cache_tolerance(weights: Tolerance, num_hidden_layers: int) -> Tolerance:
    """Bounds for a cache of eight bits, against the model whose cache is float.

    Each layer's attention adds an independent `ATTENTION_ERROR`, with `SAFETY` over their root: 0.21 for 2 layers, 0.43
    for 8, 0.83 for 30; errors of the weights' own rounding add up with it as independent ones do. A scale in another
    channel's place moves keys and values by their own size. That a graph computes what its integers say to float32's
    last digits is shown by `tests/parity/test_int8_cache.py`, against a model that rounds as the operator does.

    Args:
        weights: Bounds of the graph's precision.
        num_hidden_layers: L of the model.
    """
    relative = SAFETY * ATTENTION_ERROR * math.sqrt(num_hidden_layers)
    return Tolerance(
        logits_rel=math.hypot(weights.logits_rel, relative),
        presents_rel=math.hypot(weights.presents_rel, relative),
        # Half the variance of the logits' errors: 0.013 for 2 layers, 0.05 for 8, 0.19 for 30.
        mean_kl=weights.mean_kl + 0.5 * num_hidden_layers * (LOGIT_SPREAD * ATTENTION_ERROR) ** 2,
        # As for int8 weights: random logits with errors of 4 % flip 16 in 100, neighbours together.
        top1=min(weights.top1, 0.70),
        greedy=min(weights.greedy, 0.70),
        experts=min(weights.experts, 0.85),
        # As for float16, few tokens amplify rounding; and tokens that are unlike all calibration saturate.
        within=min(weights.within, 0.95),
    )


def _weight_error_kl(error: float, num_hidden_layers: int) -> float:
    """Half the variance of the logits' errors, nats, where each product of each layer has an error of this share."""
    return 0.5 * PRODUCTS_PER_LAYER * num_hidden_layers * (LOGIT_SPREAD * error) ** 2


REDUCED: dict[str, Callable[[int], Tolerance]] = {
    "fp16": fp16_tolerance,
    "bf16": bf16_tolerance,
    "int8": int8_tolerance,
    "int4": int4_tolerance,
}
"""Bounds of each precision below float32, for a number of layers."""
