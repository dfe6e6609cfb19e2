"""The author of calibration text: a session of a model's own int8 graph, or PyTorch for a model of other code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch

from minimind_edge.minimind import MiniMindForCausalLM
from minimind_edge.runtime.load import load_session
from minimind_edge.runtime.session.model import Logits, TokenIds

from ..artifact.staging import temporary_folder
from ..graph.build import build_graph, default_target
from ..graph.onnx_file import save_graph
from .formats import INT8, QuantizedMatrix
from .layer_groups import EMBEDDING, HEAD
from .mixed_precision import rounding_units
from .rounding import nearest


class Author(Protocol):
    """A model that rows of text are written by, token by token; a session is one."""

    def prefill(self, input_ids: TokenIds) -> Logits:
        """Begin the rows.

        Args:
            input_ids: Token ids, [B, S] int64.

        Returns:
            The logits of each row's last token, [B, V] float32; valid until the next call.
        """
        ...

    def decode(self, tokens: TokenIds) -> Logits:
        """Append a token to each row.

        Args:
            tokens: Token ids, [B] int64.

        Returns:
            See `prefill`.
        """
        ...


@contextmanager
def author_of(model: MiniMindForCausalLM, slots: int) -> Iterator[Author]:
    """Yield the fastest author of a model's text.

    For MiniMind it is a session of the model's int8 graph, rounded to nearest, which is written into a temporary
    folder: it writes text that the model might have written, and takes two thirds of float32's time.

    Args:
        model: MiniMind, in float32 on the CPU, in eval mode; or any other module with its `forward`.
        slots: The most tokens of a row.
    """
    if not isinstance(model, MiniMindForCausalLM):
        yield EagerAuthor(model)
        return
    with temporary_folder() as folder:
        path = folder / "model.onnx"
        # Weights in a file of their own are mapped into memory, so that loading holds no second copy of them.
        graph = build_graph(model, default_target(model.config), "int8", slots, quantized=_nearest_integers(model))
        save_graph(graph, path, inline_limit=0)
        session = load_session(path, device="cpu", threads=torch.get_num_threads(), native=False)
        yield session
        del session  # before its file goes: Windows keeps a file that is mapped


@torch.no_grad()
def _nearest_integers(model: MiniMindForCausalLM) -> dict[str, QuantizedMatrix]:
    """The nearest eight-bit integers of tables and layers, by the names of their parameters."""
    parameters = dict(model.named_parameters())
    formats = {name: INT8 for name in (EMBEDDING, HEAD) if name in parameters}
    for unit in rounding_units(model, INT8):
        for group, wanted in unit.formatted(INT8).items():
            formats |= dict.fromkeys(group.parameters(), wanted)
    return {name: nearest(parameters[name], wanted) for name, wanted in formats.items()}


class EagerAuthor:
    """A model that runs in PyTorch.

    Args:
        model: A module with the arguments and outputs of `MiniMindForCausalLM.forward`, in float32, in eval mode.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._past: Any = None

    def prefill(self, input_ids: TokenIds) -> Logits:
        """See `Author.prefill`."""
        self._past = None
        return self._logits(torch.from_numpy(input_ids))

    def decode(self, tokens: TokenIds) -> Logits:
        """See `Author.decode`."""
        return self._logits(torch.from_numpy(tokens)[:, None])

    @torch.no_grad()
    def _logits(self, step: torch.Tensor) -> Logits:
        output = self._model(step, past_key_values=self._past, use_cache=True, logits_to_keep=1)
        self._past = output.past_key_values
        logits: Logits = output.logits[:, -1].numpy()
        return logits
