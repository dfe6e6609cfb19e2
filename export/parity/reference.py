"""The eager PyTorch model that a graph is compared with: its protocol, and minimind-edge's own model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import ExportError
from .case import Case, Chunk, Integers, unpadded

if TYPE_CHECKING:
    import torch

    from minimind_edge.minimind import MiniMindConfig, MiniMindForCausalLM

Float32 = NDArray[np.float32]

OWN_MODEL = "minimind-edge's own model"


@dataclass(frozen=True)
class ModelShape:
    """The sizes that a graph must share with the model it is compared with.

    Args:
        vocab_size: Number of token ids, V.
        num_hidden_layers: L.
        num_key_value_heads: Key and value heads of a layer, H_kv.
        head_dim: Width of a head, D.
        max_position_embeddings: Positions that the model has.
        shows_experts: Whether the model is a mixture of experts and `EagerReference.run` gives the experts chosen.
        long_prompt: Length of a prompt after which positions lie past the original context of a scaled RoPE; None for a
            model without one.
    """

    vocab_size: int
    num_hidden_layers: int
    num_key_value_heads: int
    head_dim: int
    max_position_embeddings: int
    shows_experts: bool = False
    long_prompt: int | None = None

    @classmethod
    def of(cls, config: MiniMindConfig) -> ModelShape:
        """The sizes that a config gives to our own model."""
        original = (config.rope_scaling or {}).get("original_max_position_embeddings")
        return cls(
            vocab_size=config.vocab_size,
            num_hidden_layers=config.num_hidden_layers,
            num_key_value_heads=config.num_key_value_heads,
            head_dim=config.head_dim,
            max_position_embeddings=config.max_position_embeddings,
            shows_experts=config.use_moe,
            long_prompt=None if original is None else int(original),
        )


@dataclass(frozen=True)
class EagerOutput:
    """The results of an eager model for one chunk.

    Args:
        logits: Next-token logits, [B, S, V] float32.
        presents: Key and value of each layer, past and chunk, each [B, H_kv, P+S, D] float32.
        experts: The experts chosen in each layer, each [B, S, k] int64; None where the model has none or hides them.
    """

    logits: Float32
    presents: Sequence[tuple[Float32, Float32]]
    experts: Sequence[Integers] | None = None


class EagerReference(Protocol):
    """A model in eager PyTorch, in float32 on the CPU, with the cache of the row that it runs."""

    @property
    def name(self) -> str:
        """The name of the model's code for the report: `OWN_MODEL`, or one such as `my_model.py:MyMiniMind`."""
        ...

    @property
    def shape(self) -> ModelShape:
        """The sizes that the graph must share."""
        ...

    def run(self, chunk: Chunk) -> EagerOutput:
        """Run a chunk of one unpadded row after its past; a chunk that starts at slot 0 has none and begins anew."""
        ...

    def release(self) -> None:
        """Free the weights: the model is not run any more."""
        ...


class StockModel:
    """minimind-edge's own PyTorch model as the reference.

    Args:
        model: The model; it is run in evaluation mode whatever mode it is in.
        unread_code: What says that the checkpoint has code of its own, which this model is not.

    Raises:
        ExportError: A parameter is not float32 or not on the CPU.
    """

    def __init__(self, model: MiniMindForCausalLM, unread_code: Sequence[str] = ()) -> None:
        _require_float32(model)
        unread = f", not the checkpoint's own code ({', '.join(unread_code)}), which was not read"
        self.name = OWN_MODEL + (unread if unread_code else "")
        self._model = model
        self._past: Any = None
        self.shape = ModelShape.of(model.config)

    def run(self, chunk: Chunk) -> EagerOutput:
        """See `EagerReference.run`."""
        import torch

        if chunk.start == 0:
            self._past = None
        with torch.inference_mode(), _evaluating(self._model), _routes(self._model) as routes:
            output = self._model(
                input_ids=torch.from_numpy(chunk.input_ids),
                position_ids=torch.from_numpy(chunk.position_ids),
                past_key_values=self._past,
                use_cache=True,
            )
        self._past = output.past_key_values
        presents = [(key.numpy(), value.numpy()) for key, value in self._past]
        experts = [choice.numpy().reshape(*chunk.input_ids.shape, -1) for choice in routes]
        return EagerOutput(output.logits.numpy(), presents, experts or None)

    def release(self) -> None:
        """See `EagerReference.release`."""
        self._past = None
        self._model.to("meta")


def eager_reference(model: MiniMindForCausalLM | EagerReference) -> EagerReference:
    """The model as a reference: one of ours is wrapped, any other is one already.

    Raises:
        ExportError: Our model is not in float32 on the CPU.
    """
    from minimind_edge.minimind import MiniMindForCausalLM

    return StockModel(model) if isinstance(model, MiniMindForCausalLM) else model


@dataclass(frozen=True)
class RowReference:
    """The results of eager PyTorch for one row of n tokens.

    Args:
        logits: [n, V] float32.
        presents: (key, value) of each layer, each [H_kv, n, D] float32.
        experts: The experts chosen in each layer, each [n, k] int64; empty where they are not shown.
    """

    logits: Float32
    presents: tuple[tuple[Float32, Float32], ...]
    experts: tuple[Integers, ...]

    @classmethod
    def of(cls, outputs: Sequence[EagerOutput]) -> RowReference:
        """Join the results for the chunks of one row."""
        return cls(
            np.concatenate([output.logits[0] for output in outputs]),
            tuple((key[0], value[0]) for key, value in outputs[-1].presents),
            tuple(
                np.concatenate([choice[0] for choice in layer])
                for layer in zip(*(output.experts or () for output in outputs), strict=True)
            ),
        )


def row_references(reference: EagerReference, case: Case) -> list[RowReference]:
    """Run each row of `case` by itself, unpadded and in one pass: any padding and chunking must give the same."""
    rows = []
    for row, tokens in enumerate(case.rows):
        (chunk,) = unpadded(case.name, tokens, positions=case.row_positions(row)).chunks()
        rows.append(RowReference.of([reference.run(chunk)]))
    return rows


def greedy_case(reference: EagerReference, prompt: Integers, steps: int) -> tuple[Case, list[RowReference]]:
    """Let eager continue `prompt` [n] by `steps` greedy tokens, one at a time with its cache.

    The case feeds eager's tokens, so that a candidate's first difference does not make all later ones incomparable: the
    candidate's tokens are equal to eager's exactly where it would have chosen each of them when left alone.
    """
    tokens, start = prompt, 0
    outputs: list[EagerOutput] = []
    for _ in range(steps):
        output = reference.run(_unpadded_chunk(tokens, start))
        if outputs:  # only the last cache is compared, and each step has one
            outputs[-1] = replace(outputs[-1], presents=())
        outputs.append(output)
        start, tokens = len(tokens), np.append(tokens, output.logits[0, -1].argmax())
    splits = (len(prompt),) + (1,) * (steps - 1)
    case = Case("greedy", (tokens[:-1],), np.arange(len(tokens) - 1)[None], splits, greedy_from=len(prompt) - 1)
    return case, [RowReference.of(outputs)]


def _unpadded_chunk(tokens: Integers, start: int) -> Chunk:
    """The tokens [n] of one row from `start` on."""
    indices = np.arange(start, len(tokens))[None]
    return Chunk(start, tokens[None, start:], np.ones((1, len(tokens)), np.int64), indices, indices)


@contextmanager
def _routes(model: MiniMindForCausalLM) -> Iterator[list[torch.Tensor]]:
    """Record the experts that the router of each layer chooses in one pass, [S, k] for each mixture of experts."""
    from minimind_edge.minimind import MoEGate

    routes: list[torch.Tensor] = []
    gates = [module for module in model.modules() if isinstance(module, MoEGate)]
    handles = [gate.register_forward_hook(lambda _module, _inputs, found: routes.append(found[0])) for gate in gates]
    try:
        yield routes
    finally:
        for handle in handles:
            handle.remove()


def _require_float32(model: MiniMindForCausalLM) -> None:
    import torch

    other = next((p for p in model.parameters() if p.dtype != torch.float32 or p.device.type != "cpu"), None)
    if other is not None:
        raise ExportError(f"parity needs the model in float32 on the CPU, found {other.dtype} on {other.device}")


@contextmanager
def _evaluating(model: MiniMindForCausalLM) -> Iterator[None]:
    """Switch dropout off, and afterwards back to the mode that the model was in."""
    training = model.training
    model.train(False)
    try:
        yield
    finally:
        model.train(training)
