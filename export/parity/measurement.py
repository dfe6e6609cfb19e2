"""The measurement of one case in one runner: its differences from eager, token by token and layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..divergence import TokenErrors, joined, same_sets, token_errors
from .case import PADDING, Case, Chunk, Integers
from .reference import RowReference
from .runner import Presents, RunError, SessionRunner, StepOutput

Flags = NDArray[np.bool_]

TINY = 1e-30
"""The scale of a tensor that is all zeros, so that a difference from it is large and still finite."""


@dataclass(frozen=True)
class TensorError:
    """The differences of one tensor from eager's, token by token.

    Args:
        absolute: The largest absolute difference of each comparable token, [N] float64.
        scale: The largest absolute value in eager's tensor.
    """

    absolute: NDArray[np.float64]
    scale: float

    @property
    def relative(self) -> NDArray[np.float64]:
        """The largest difference of each token divided by the scale, [N]."""
        return self.absolute / max(self.scale, TINY)

    @property
    def max_abs(self) -> float:
        """The largest difference of all tokens; 0 where no token is comparable."""
        return float(self.absolute.max(initial=0.0))

    @property
    def max_rel(self) -> float:
        """The largest difference of all tokens divided by the scale."""
        return float(self.relative.max(initial=0.0))


@dataclass(frozen=True)
class LayerErrors:
    """The differences of one layer's cached key and value from eager's."""

    key: TensorError
    value: TensorError


@dataclass(frozen=True)
class Measurement:
    """The errors of one case in one runner, or the reason why there are none.

    Args:
        case: The case's name.
        runner: The runner's name.
        errors: The errors of the N compared tokens.
        comparable: Which of them have numbers that can be compared one by one, [N]: all, or those that took the same
            route through the experts as in eager.
        greedy: Which of them belong to eager's greedy text, [N].
        layers: The errors of the cache, layer by layer; empty where the runner does not show it.
        same_experts: For each layer, whether the experts of each of the case's n tokens are eager's, [n]; empty where
            the experts are not shown.
        defect: The reason why nothing was measured; None where something was.
        case_comparable: `comparable` for all n tokens of the case, compared or not, in their order, [n].
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
        """A measurement of nothing, for the reason `defect`."""
        nothing = np.zeros(0, dtype=np.bool_)
        return cls(case.name, runner, joined(()), nothing, nothing, defect=defect)

    @property
    def tokens(self) -> int:
        """The number of compared tokens, N."""
        return len(self.errors.kl)

    @property
    def comparable_errors(self) -> TokenErrors:
        """The errors of the comparable tokens."""
        return self.errors.take(self.comparable)

    @property
    def logits(self) -> TensorError:
        """The differences of the comparable tokens' logits from eager's."""
        return TensorError(self.comparable_errors.max_abs, float(self.errors.scale.max(initial=0.0)))

    @property
    def presents(self) -> list[TensorError]:
        """The differences of the cached tensors from eager's, key and value of layer 0 first."""
        return [tensor for layer in self.layers for tensor in (layer.key, layer.value)]


def measure(
    case: Case,
    reference: Sequence[RowReference],
    runner: SessionRunner,
    comparable: Flags | None = None,
    routes_may_differ: bool = False,
) -> Measurement:
    """Run `case` chunk by chunk and measure the differences of the results from eager's.

    Args:
        case: The case to run.
        reference: Eager's results, one for each row.
        runner: The candidate.
        comparable: Which tokens have numbers that can be compared one by one, [case.tokens]; None to determine it here.
        routes_may_differ: Where that is determined here, whether to leave out the tokens that took another route
            through the experts than in eager, or attended to one that did; otherwise all are compared.

    Returns:
        The measurement. It has a `defect` where the candidate fails, or answers in another shape or with a number that
        is not finite.
    """
    try:
        _require_finite("eager's own logits", [row.logits for row in reference])
        runner.reset(len(case.rows), case.slots)
        tokens, errors, same_experts = _run(case, reference, runner)
        if comparable is None:
            comparable = _same_route(case, same_experts if routes_may_differ else ())
        presents = runner.presents()
        layers = () if presents is None else _layer_errors(case, reference, presents, comparable)
    except RunError as error:
        return Measurement.failed(case, runner.name, str(error))
    greedy = tokens >= (case.tokens if case.greedy_from is None else case.greedy_from)
    return Measurement(
        case.name,
        runner.name,
        errors,
        comparable[tokens],
        greedy,
        layers,
        same_experts,
        case_comparable=comparable,
    )


def _same_route(case: Case, same_experts: Sequence[Flags]) -> Flags:
    """Whether a token and all that it attends to took eager's experts in every layer, [case.tokens]."""
    if not same_experts:
        return np.ones(case.tokens, dtype=np.bool_)
    rows = np.split(np.logical_and.reduce(same_experts), _offsets(case)[1:])
    return np.concatenate([np.logical_and.accumulate(row) for row in rows])


def _offsets(case: Case) -> Integers:
    """The number of each row's first token, [B], where tokens are numbered row after row."""
    return np.cumsum([0, *(len(row) for row in case.rows)])[:-1]


def _run(
    case: Case, reference: Sequence[RowReference], runner: SessionRunner
) -> tuple[Integers, TokenErrors, tuple[Flags, ...]]:
    """Run all chunks: the compared tokens' numbers, ascending, their errors, and flags of equal experts by layer."""
    numbers: list[Integers] = []
    errors: list[TokenErrors] = []
    same_experts = [np.zeros(case.tokens, dtype=np.bool_) for _ in reference[0].experts]
    offsets, experts_seen = _offsets(case), bool(same_experts)  # a reference may not show its experts
    for chunk in case.chunks():
        output = runner.step(chunk)
        rows, columns = _compared_slots(chunk, runner.last_token_only)
        indices = chunk.layout[rows, columns]
        expected = np.stack([reference[row].logits[index] for row, index in zip(rows, indices, strict=True)])
        errors.append(token_errors(expected, _logits_at(output, chunk, rows, columns, expected.shape[1])))
        numbers.append(offsets[rows] + indices)
        experts_seen = experts_seen and output.experts is not None
        if same_experts and output.experts is not None:
            _compare_experts(reference, output, chunk, offsets, same_experts)
    tokens = np.concatenate(numbers)
    order = np.argsort(tokens)
    return tokens[order], joined(errors).take(order), tuple(same_experts) if experts_seen else ()


def _compared_slots(chunk: Chunk, last_token_only: bool) -> tuple[Integers, Integers]:
    """Row and column of the chunk's real tokens, or only of the last one of each row."""
    real = chunk.layout != PADDING
    if last_token_only:
        real &= np.cumsum(real, axis=1) == real.sum(axis=1, keepdims=True)
    rows, columns = np.nonzero(real)
    return rows, columns


def _logits_at(
    output: StepOutput, chunk: Chunk, rows: Integers, columns: Integers, vocab_size: int
) -> NDArray[np.floating]:
    """The logits [N, V] at some slots of the chunk."""
    batch, length = chunk.input_ids.shape
    expected = (batch, vocab_size) if output.logits.ndim == 2 else (batch, length, vocab_size)
    _require_shape("logits", output.logits, expected)
    if output.logits.dtype != np.float32:
        raise RunError(f"logits are {output.logits.dtype}, expected float32")
    _require_finite("logits", [output.logits])
    return output.logits[rows] if output.logits.ndim == 2 else output.logits[rows, columns]


def _compare_experts(
    reference: Sequence[RowReference], output: StepOutput, chunk: Chunk, offsets: Integers, same_experts: list[Flags]
) -> None:
    """Set the flags of the chunk's tokens in each layer."""
    assert output.experts is not None
    if len(output.experts) != len(same_experts):
        raise RunError(f"{len(output.experts)} layers show their experts, expected {len(same_experts)}")
    rows, columns = _compared_slots(chunk, last_token_only=False)
    indices = chunk.layout[rows, columns]
    for layer, chosen in enumerate(output.experts):
        expected = np.stack([reference[row].experts[layer][index] for row, index in zip(rows, indices, strict=True)])
        shape = (*chunk.input_ids.shape, expected.shape[1])
        if chosen.size != np.prod(shape):
            raise RunError(f"layer {layer}'s experts have shape {chosen.shape}, expected {shape}")
        same_experts[layer][offsets[rows] + indices] = same_sets(expected, chosen.reshape(shape)[rows, columns])


def _layer_errors(
    case: Case, reference: Sequence[RowReference], presents: Presents, comparable: Flags
) -> tuple[LayerErrors, ...]:
    """Compare the cache at the end of a case, in the slots that hold real tokens."""
    if len(presents) != len(reference[0].presents):
        raise RunError(f"{len(presents)} layers have a cache, expected {len(reference[0].presents)}")
    kept = np.split(comparable, _offsets(case)[1:])

    def compare(layer: int, part: int) -> TensorError:
        name = f"present.{layer}.{('key', 'value')[part]}"
        return _tensor_error(name, case, lambda row: reference[row].presents[layer][part], presents[layer][part], kept)

    return tuple(LayerErrors(compare(layer, 0), compare(layer, 1)) for layer in range(len(presents)))


def _tensor_error(
    name: str,
    case: Case,
    expected_of: Callable[[int], NDArray[np.floating]],
    found: NDArray[np.floating],
    kept: Sequence[Flags],
) -> TensorError:
    """The differences of `found` [B, H_kv, T, D] from each row's expected [H_kv, n, D], at the tokens kept."""
    heads, _, width = expected_of(0).shape
    _require_shape(name, found, (len(case.rows), heads, case.slots, width))
    _require_finite(name, [found])
    differences, scale = [], 0.0
    for row in range(len(case.rows)):
        expected = expected_of(row)
        real = found[row][:, case.layout[row] != PADDING].astype(np.float32)
        differences.append(np.abs(real - expected).max(axis=(0, 2))[kept[row]])
        scale = max(scale, float(np.abs(expected).max(initial=0.0)))
    return TensorError(np.concatenate(differences).astype(np.float64), scale)


def _require_shape(name: str, found: NDArray[np.floating], expected: tuple[int, ...]) -> None:
    if found.shape != expected:
        raise RunError(f"{name} has shape {list(found.shape)}, expected {list(expected)}")


def _require_finite(name: str, arrays: Sequence[NDArray[np.floating]]) -> None:
    broken = sum(int(np.count_nonzero(~np.isfinite(array))) for array in arrays)
    if broken:
        raise RunError(f"{broken} of {sum(array.size for array in arrays)} numbers in {name} are not finite")
