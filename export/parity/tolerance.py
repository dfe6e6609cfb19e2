"""The tolerances of each precision: how far a graph may be from eager float32, and why."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..errors import ExportError

HALF_ROUNDOFF = 2.0**-11
"""The largest relative error of rounding to float16."""

BFLOAT16_ROUNDOFF = 2.0**-8
"""The largest relative error of rounding to bfloat16, eight times that of float16."""

ROUNDINGS_PER_LAYER = 12
"""Results of a block that are rounded on their way to the residual stream: norms, q, k, v, scores, mix, o, gate, up,
down and the sums."""

PRODUCTS_PER_LAYER = 7
"""Results of a block that come from quantized weights: q, k, v, o, gate, up, down."""

INT8_ERROR = 0.01
"""The standard error of a product by an int8 weight, relative to its size: a step is the largest of a few hundred
weights, 3.5 to 4 standard deviations, over 127, and the error of rounding is a step over the root of 12."""

INT4_ERROR = 0.09
"""The standard error of a product by an int4 weight, relative to its size: a step is the largest of 32 weights, 2.2
standard deviations, over 7, and the error of rounding is a step over the root of 12."""

ACTIVATION_ERROR = 0.005
"""The relative standard error of an activation that ONNX Runtime rounds to int8: a step is the largest of 32, 2.2
standard deviations, over 127, and the error of rounding is a step over the root of 12. A product averages as many
errors as it has terms, so its own relative error is the same."""

CACHE_ERROR = 0.012
"""The standard error of a number in an int8 KV cache, relative to the spread of its channel: a step is 1.25 times the
largest of a few thousand, four standard deviations, over 127, and the error of rounding a step over the root of 12."""

SCORE_SPREAD = 3.0
"""The standard deviation of a query's scores where attention makes a choice; the softmax of less is nearly even."""

ATTENTION_ERROR = CACHE_ERROR * math.hypot(1.0, SCORE_SPREAD)
"""The relative standard error of attention's result with an int8 KV cache, where it attends to one value alone: the
value's own error and that of its weight, which has the score's. A score's error has as many terms as the score, so
relative to the score's spread it is `CACHE_ERROR`."""

LOGIT_SPREAD = 3.0
"""The standard deviation of a token's logits in a typical trained model."""

SAFETY = 4.0
"""The bound over the expected size of a rounding error: the largest of millions is four to five standard deviations."""


@dataclass(frozen=True)
class Tolerance:
    """The bounds of one precision. Errors must not exceed theirs, shares must not fall below theirs.

    Args:
        logits_rel: The largest difference of two logits, over the largest |logit| of the case.
        presents_rel: The largest difference of two cached numbers, over the tensor's largest |number| in the case.
        mean_kl: The KL divergence from eager's distribution, nats, mean over all tokens.
        top1: The share of tokens after which both find the same next token likeliest.
        greedy: The same share along eager's greedy text.
        experts: The share of choices, one for each token and layer, in which both choose the same experts.
        within: The share of tokens for which the bounds on single numbers, the first two, must hold.
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
        """Whether some tokens may take other experts than in eager.

        Where two experts score nearly the same, rounding decides, and another expert's output is another number, not a
        rounded one. Tokens on another route, and those that attend to them, count only for the shares.
        """
        return self.experts < 1.0


FP32 = Tolerance(
    # Another order of summation moves a logit by some 1e-6 of the largest; a systematic fault, by more than 1e-4. That
    # is 1e-3 for logits of up to 10; a bound on the difference itself would be wrong for larger ones, where eager
    # float32 is no nearer to the truth: with SmolLM2-135M's logits of 33 it is up to 1.6e-3 away from eager float64.
    logits_rel=1e-4,
    presents_rel=1e-4,
    # Logits within e of each other bound the divergence by (2 e)^2 / 8 (Hoeffding's lemma): 5e-7 for e = 1e-3.
    mean_kl=5e-7,
    # After random tokens two logits may be closer together than float32 can tell: no more than 1 in 100.
    top1=0.99,
    # The text itself and the route through the experts are eager's, whatever the margin.
    greedy=1.0,
    experts=1.0,
    within=1.0,
)


@dataclass(frozen=True)
class Rounding:
    """The errors of one kind of rounding in a model, from which its bounds follow.

    Args:
        error: The relative error of one rounded result.
        results_per_layer: Results of a layer that have such an error, independent of each other.
        top1: See `Tolerance`; the same share is the bound for `greedy`.
        experts: See `Tolerance`.
        mean_kl: See `Tolerance`; None for half the variance of the logits' errors.
        bounds_numbers: Whether single logits and cached numbers can be bounded at all.
    """

    error: float
    results_per_layer: int
    top1: float
    experts: float
    mean_kl: float | None = None
    bounds_numbers: bool = True

    def tolerance(self, num_hidden_layers: int) -> Tolerance:
        """The bounds for a model of L layers: independent errors add up as the root of their number."""
        relative = SAFETY * self.error * math.sqrt(self.results_per_layer * num_hidden_layers)
        return Tolerance(
            logits_rel=relative if self.bounds_numbers else math.inf,
            presents_rel=relative if self.bounds_numbers else math.inf,
            mean_kl=self._half_variance(num_hidden_layers) if self.mean_kl is None else self.mean_kl,
            top1=self.top1,
            greedy=self.top1,
            experts=self.experts,
            # Few tokens amplify rounding: where it decides whether a token becomes one that all others attend to, its
            # state is another one. In SmolLM2-135M, 30 layers, float16, random tokens: errors of 0.11 at some, mean KL
            # 5e-4 over all. With an int8 KV cache, tokens that are unlike all calibration saturate as well.
            within=0.95,
        )

    def _half_variance(self, num_hidden_layers: int) -> float:
        """Half the variance of the logits' errors, which is their mean KL in nats; a model that lost 1 is of no use."""
        return min(1.0, 0.5 * self.results_per_layer * num_hidden_layers * (LOGIT_SPREAD * self.error) ** 2)


FLOAT16 = Rounding(
    # Bounds on numbers: 0.010 for 2 layers, 0.019 for 8, 0.037 for 30.
    error=HALF_ROUNDOFF,
    results_per_layer=ROUNDINGS_PER_LAYER,
    # Half the variance of the logits' errors: 1e-4 for errors of 0.5 % and logits that spread by 3; ten times that.
    mean_kl=1e-3,
    # A choice flips where the margin is below the errors; 0.5 % errors against the mean margin of random logits,
    # a quarter of their spread, flip 2 in 100. Trained models have wider margins.
    top1=0.95,
    # Router scores have errors of 0.5 % as well; with four experts fewer than 1 choice in 100 is as close as that.
    experts=0.98,
)

BFLOAT16 = Rounding(
    # Float16's with errors eight times as large: 0.077 for 2 layers, 0.15 for 8, 0.30 for 30.
    error=BFLOAT16_ROUNDOFF,
    results_per_layer=ROUNDINGS_PER_LAYER,
    # Half the variance of the logits' errors: 7e-3 for errors of 4 % and logits that spread by 3.
    mean_kl=1e-2,
    # Eight times float16's 2 in 100 flip, or fewer, as an error of several logits together flips only one choice.
    top1=0.84,
    # Eight times as many choices as float16's 1 in 100 are as close as the errors.
    experts=0.92,
)

INT8_WEIGHTS = Rounding(
    # Int8 weights, a scale for each output, float16 for all else; the reference is the float32 model. The error is the
    # weights', the same in every run: 0.15 for 2 layers, 0.30 for 8, 0.58 for 30. Mean KL: 0.006 for 2, 0.025 for 8.
    error=INT8_ERROR,
    results_per_layer=PRODUCTS_PER_LAYER,
    # Random logits with errors of 4 % flip 16 in 100, as in bfloat16; 64 tokens differ from that by up to 14 (three
    # standard deviations), since here the errors of neighbours go together. Trained models have wider margins.
    top1=0.70,
    # As many choices of an expert are as close as the errors as in bfloat16; one that flips takes later ones along.
    experts=0.85,
)

INT4_WEIGHTS = Rounding(
    # Int4 weights, a scale for each block of 32 inputs; the reference is the float32 model. A step is the block's
    # largest weight over 7 where int8's is the channel's over 127: errors are nine times as large, and mean KL is some
    # eighty times int8's. That a graph computes what its integers say has bounds as narrow as float16's, but only a
    # model with the same rounded weights can show it (`rounded_weights_tolerance`); these bound what rounding loses.
    error=INT4_ERROR,
    results_per_layer=PRODUCTS_PER_LAYER,
    # Nine times int8's bound on numbers is more than the logits themselves: single numbers prove nothing.
    bounds_numbers=False,
    # Errors of 40 % leave random logits a fraction of their choices, trained models most; chance is 1 in V.
    top1=0.25,
    # With four experts, chance leaves 1 choice of 4, or of 6 pairs.
    experts=0.60,
)

INT8_ACTIVATIONS = Rounding(
    # 0.075 for 2 layers, 0.15 for 8, 0.29 for 30. Mean KL: 0.0016 for 2 layers, 0.006 for 8, 0.024 for 30.
    error=ACTIVATION_ERROR,
    results_per_layer=PRODUCTS_PER_LAYER,
    # Errors of half of int8 weights': they flip half as many choices.
    top1=0.84,
    experts=0.92,
)

INT8_CACHE = Rounding(
    # 0.21 for 2 layers, 0.43 for 8, 0.83 for 30. Mean KL: 0.013 for 2 layers, 0.05 for 8, 0.19 for 30.
    error=ATTENTION_ERROR,
    results_per_layer=1,
    # As for int8 weights: random logits with errors of 4 % flip 16 in 100, neighbours together.
    top1=0.70,
    experts=0.85,
)

REDUCED = {"fp16": FLOAT16, "bf16": BFLOAT16, "int8": INT8_WEIGHTS, "int4": INT4_WEIGHTS}
"""The rounding of each precision below float32."""


def tolerance_of(precision: str, num_hidden_layers: int) -> Tolerance:
    """Look up the bounds of a precision.

    Args:
        precision: The graph's precision.
        num_hidden_layers: L of the model; rounding errors of reduced precision grow with it.

    Raises:
        ExportError: There are no bounds for this precision.
    """
    if precision == "fp32":
        return FP32
    if precision not in REDUCED:
        raise ExportError(f"no parity bounds for precision {precision!r}: expected fp32 or {' or '.join(REDUCED)}")
    return REDUCED[precision].tolerance(num_hidden_layers)


def rounded_weights_tolerance(num_hidden_layers: int) -> Tolerance:
    """The bounds for an int8 or int4 graph against the model with the same dequantized weights.

    The error that remains is the rounding of activations, which ONNX Runtime does for products by integers (accuracy
    level 4). A zero point, a scale or half a byte in another's place moves logits by more than their size.
    """
    return INT8_ACTIVATIONS.tolerance(num_hidden_layers)


def int8_cache_tolerance(weights: Tolerance, num_hidden_layers: int) -> Tolerance:
    """The bounds for an int8 KV cache, against the model whose cache is float.

    Errors of the weights' own rounding add up with the cache's as independent ones do. A scale in another channel's
    place moves keys and values by their own size. That a graph computes what its integers say to float32's last digits
    is shown by `tests/parity/test_int8_cache.py`, against a model that rounds as the operator does.

    Args:
        weights: The bounds of the graph's precision.
        num_hidden_layers: L of the model.
    """
    cache = INT8_CACHE.tolerance(num_hidden_layers)
    return Tolerance(
        logits_rel=math.hypot(weights.logits_rel, cache.logits_rel),
        presents_rel=math.hypot(weights.presents_rel, cache.presents_rel),
        mean_kl=weights.mean_kl + cache.mean_kl,
        top1=min(weights.top1, cache.top1),
        greedy=min(weights.greedy, cache.greedy),
        experts=min(weights.experts, cache.experts),
        within=min(weights.within, cache.within),
    )
