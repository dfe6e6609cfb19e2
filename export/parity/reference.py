"""What eager PyTorch says: each row by itself, without padding, in one pass; and its own greedy continuation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .case import Case, Integers

if TYPE_CHECKING:
    import torch

    from minimind_edge.minimind import MiniMindForCausalLM

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class RowReference:
    """Eager's results for one row of n tokens.

    Args:
        logits: [n, V] float32.
        presents: (key, value) of each layer, each [H_kv, n, D] float32.
        experts: The experts chosen in each layer, each [n, k] int64; empty for a dense model.
    """

    logits: Float32
    presents: tuple[tuple[Float32, Float32], ...]
    experts: tuple[Integers, ...]


def reference_of(model: MiniMindForCausalLM, case: Case) -> list[RowReference]:
    """Run each row of `case` by itself: what every padding and every chunking of it has to give."""
    return [_single_pass(model, tokens, case.row_positions(row)) for row, tokens in enumerate(case.rows)]


def greedy_case(model: MiniMindForCausalLM, prompt: Integers, steps: int) -> tuple[Case, list[RowReference]]:
    """Let eager continue `prompt` [n] by `steps` greedy tokens, one at a time behind its cache.

    The case feeds eager's tokens, so that a candidate's first difference does not make all later ones incomparable: the
    candidate's tokens are equal to eager's exactly where it would have chosen each of them when left alone.
    """
    import torch

    chunk, parts, past = torch.from_numpy(prompt)[None], [], None
    fed = [prompt]
    with torch.inference_mode(), _routes(model) as routes:
        for _ in range(steps):
            output = model(input_ids=chunk, past_key_values=past, use_cache=True)
            past = output.past_key_values
            parts.append(output.logits[0].numpy())
            chunk = output.logits[:, -1:].argmax(dim=-1)
            fed.append(chunk[0].numpy())
    tokens = np.concatenate(fed[:-1])
    reference = RowReference(np.concatenate(parts), _arrays(past), _stacked(routes))
    splits = (len(prompt),) + (1,) * (steps - 1)
    case = Case("greedy", (tokens,), np.arange(len(tokens))[None], splits, greedy_from=len(prompt) - 1)
    return case, [reference]


def _single_pass(model: MiniMindForCausalLM, tokens: Integers, positions: Integers) -> RowReference:
    import torch

    ids, position_ids = torch.from_numpy(tokens)[None], torch.from_numpy(positions)[None]
    with torch.inference_mode(), _routes(model) as routes:
        output = model(input_ids=ids, position_ids=position_ids, use_cache=True)
    return RowReference(output.logits[0].numpy(), _arrays(output.past_key_values), _stacked(routes))


def _arrays(presents: Any) -> tuple[tuple[Float32, Float32], ...]:
    """(key, value) pairs [1, H_kv, n, D] without their batch axis."""
    return tuple((key[0].numpy(), value[0].numpy()) for key, value in presents)


def _stacked(routes: Sequence[Sequence[torch.Tensor]]) -> tuple[Integers, ...]:
    """Each layer's choices of all passes, [n, k]."""
    return tuple(np.concatenate([choice.numpy() for choice in layer]) for layer in routes)


@contextmanager
def _routes(model: MiniMindForCausalLM) -> Iterator[list[list[torch.Tensor]]]:
    """Record the experts that each layer's router chooses, a list of [S, k] a layer, one entry a pass."""
    from minimind_edge.minimind import MoEGate

    gates = [module for module in model.modules() if isinstance(module, MoEGate)]
    routes: list[list[torch.Tensor]] = [[] for _ in gates]

    def recorder(layer: int) -> Any:
        return lambda _module, _inputs, outputs: routes[layer].append(outputs[0])

    handles = [gate.register_forward_hook(recorder(layer)) for layer, gate in enumerate(gates)]
    try:
        yield routes
    finally:
        for handle in handles:
            handle.remove()
