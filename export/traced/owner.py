"""Calling a model's own code, and reading its architecture from its outputs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..errors import ExportError
from .rotary import positioned, table_owners

KeyValue = tuple[torch.Tensor, torch.Tensor]
Past = Sequence[KeyValue] | None

PROTOCOL = "forward(input_ids, attention_mask, position_ids, past_key_values) that gives logits and presents"
DEFAULT_POSITIONS = 2048
"""The context length, in tokens, of a model that does not tell its own."""

PROBED_TOKENS = (7, 11)
"""The numbers of tokens to probe a cache's layout with: at most one of them can equal the number of heads."""


@dataclass(frozen=True)
class ModelFacts:
    """The sizes and special tokens of a changed model, under the names of `MiniMindConfig`.

    Attributes:
        vocab_size: The number of token ids, V.
        hidden_size: The width of the residual stream, H.
        num_hidden_layers: The number of layers, each with a key and a value in the cache.
        num_attention_heads: The number of query heads, H_q; H_kv where the model does not tell.
        num_key_value_heads: The number of key and value heads, H_kv.
        head_dim: The width of a head, D.
        max_position_embeddings: The longest context, in tokens.
        bos_token_id: The id of the bos token; None where the model does not tell.
        eos_token_id: The id of the eos token, or several; None where the model does not tell.
        pad_token_id: The id of the pad token; None where the model does not tell.
        parameters: The count of numbers in all parameters, shared ones counted once.
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    max_position_embeddings: int
    bos_token_id: int | None
    eos_token_id: int | list[int] | None
    pad_token_id: int | None
    parameters: int

    @property
    def generation(self) -> str:
        """The word `traced`, where a stock model has its generation."""
        return "traced"


@dataclass(frozen=True)
class OwnersModel:
    """A changed model and the way it is called.

    Attributes:
        model: The model in eval mode, float32 on the CPU.
        facts: The model's sizes and special tokens.
        takes_positions: Whether `forward` has `position_ids`; otherwise the tables of angles are read by position.
        heads_first: Whether the model's cache is [B, H_kv, T, D]; otherwise it is [B, T, H_kv, D], as in upstream's.
    """

    model: nn.Module
    facts: ModelFacts
    takes_positions: bool
    heads_first: bool

    def call(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None,
        position_ids: torch.Tensor | None,
        past: Past,
    ) -> tuple[torch.Tensor, list[KeyValue]]:
        """Call the model's own code.

        Args:
            input_ids: [B, S] int64.
            attention_mask: [B, P+S], 1 for real tokens; None where all are.
            position_ids: [B, S] int64; None for slots.
            past: A (key, value) per layer, each [B, H_kv, P, D]; None for no past.

        Returns:
            Logits [B, S, V]; a (key, value) per layer, each [B, H_kv, P+S, D].
        """
        own_past = None if past is None else [self._turned(pair) for pair in past]
        if self.takes_positions:
            output = _called(self.model, input_ids, attention_mask, own_past, position_ids=position_ids)
        elif position_ids is None:
            output = _called(self.model, input_ids, attention_mask, own_past)
        else:
            with positioned(table_owners(self.model), position_ids):
                output = _called(self.model, input_ids, attention_mask, own_past)
        logits, presents = read_output(output)
        return logits, [self._turned(pair) for pair in presents]

    def _turned(self, pair: KeyValue) -> KeyValue:
        """A key and a value with heads and tokens transposed, from the graph's layout to the model's or back."""
        if self.heads_first:
            return pair
        return pair[0].transpose(1, 2), pair[1].transpose(1, 2)


def understand(model: nn.Module, max_length: int | None = None) -> OwnersModel:
    """Find out how a model is called, by its signature and by calling it.

    Args:
        model: A model that keeps the protocol, or upstream MiniMind's own form of it.
        max_length: The context length, in tokens, of a model that does not tell its own.

    Raises:
        ExportError: The model keeps neither.
    """
    model.eval()
    names = inspect.signature(model.forward).parameters
    missing = [name for name in ("input_ids", "attention_mask", "past_key_values") if name not in names]
    if missing:
        raise ExportError(f"{type(model).__name__}.forward has no {', '.join(missing)}; expected {PROTOCOL}")
    takes_positions = "position_ids" in names
    if not takes_positions and not table_owners(model):
        raise ExportError(
            f"{type(model).__name__}.forward has no position_ids, and no module has tables freqs_cos and freqs_sin to "
            f"read by position; add the argument: expected {PROTOCOL}"
        )
    other = next((p for p in model.parameters() if p.dtype != torch.float32 or p.device.type != "cpu"), None)
    if other is not None:
        raise ExportError(f"the model must be in float32 on the CPU, found {other.dtype} on {other.device}")
    logits, presents, heads_first = _probe(model, takes_positions)
    key = presents[0][0] if heads_first else presents[0][0].transpose(1, 2)
    facts = _facts(
        model, logits.shape[-1], len(presents), key_heads=key.shape[1], head_dim=key.shape[3], length=max_length
    )
    return OwnersModel(model, facts, takes_positions, heads_first)


def read_output(output: Any) -> tuple[torch.Tensor, list[KeyValue]]:
    """Logits and presents of a model's output: a tuple of the two, or an object or a dict that names them.

    Raises:
        ExportError: The output has another form.
    """
    if isinstance(output, tuple) and type(output) is tuple:
        logits, presents = output[0], output[1] if len(output) == 2 else output[1:]
    else:
        get: Callable[[str], Any] = output.get if isinstance(output, dict) else lambda name: getattr(output, name, None)
        logits, presents = get("logits"), get("past_key_values")
    pairs = [tuple(pair) for pair in presents] if isinstance(presents, (list, tuple)) else []
    if not isinstance(logits, torch.Tensor) or not pairs or any(len(pair) != 2 for pair in pairs):
        raise ExportError(f"the model gives no logits with a (key, value) per layer; expected {PROTOCOL}")
    return logits, pairs


def _called(
    model: nn.Module, input_ids: torch.Tensor, attention_mask: torch.Tensor | None, past: Past, **more: Any
) -> Any:
    names = inspect.signature(model.forward).parameters
    if "use_cache" in names or any(one.kind is one.VAR_KEYWORD for one in names.values()):
        more["use_cache"] = True
    return model(input_ids=input_ids, attention_mask=attention_mask, past_key_values=past, **more)


def _probe(model: nn.Module, takes_positions: bool) -> tuple[torch.Tensor, list[KeyValue], bool]:
    """Logits and presents of a few tokens, and whether the cache has its heads before its tokens."""
    for length in PROBED_TOKENS:
        ids = torch.zeros((1, length), dtype=torch.int64)
        more = {"position_ids": torch.arange(length)[None]} if takes_positions else {}
        try:
            with torch.no_grad():
                logits, presents = read_output(_called(model, ids, torch.ones_like(ids), None, **more))
        except ExportError:
            raise
        except Exception as error:  # the owner's code may raise anything, and the owner has to read it
            message = f"{type(model).__name__} fails for {length} tokens: {type(error).__name__}: {error}"
            raise ExportError(f"{message}; expected {PROTOCOL}") from error
        shape = presents[0][0].shape
        if len(shape) != 4 or length not in shape[1:3] or logits.shape[:2] != (1, length):
            raise ExportError(
                f"for {length} tokens the logits are {list(logits.shape)} and a key is {list(shape)}; "
                "expected [B, S, V] and [B, H_kv, S, D] or [B, S, H_kv, D]"
            )
        if shape[1] != shape[2]:
            break
    return logits, presents, bool(shape[2] == length)


def _facts(
    model: nn.Module, vocab: int, layers: int, *, key_heads: int, head_dim: int, length: int | None
) -> ModelFacts:
    config: Any = getattr(model, "config", None)
    width = next(
        (m.embedding_dim for m in model.modules() if isinstance(m, nn.Embedding) and m.num_embeddings >= vocab), 0
    )
    return ModelFacts(
        vocab_size=vocab,
        hidden_size=getattr(config, "hidden_size", width),
        num_hidden_layers=layers,
        num_attention_heads=getattr(config, "num_attention_heads", key_heads),
        num_key_value_heads=key_heads,
        head_dim=head_dim,
        max_position_embeddings=getattr(config, "max_position_embeddings", length or DEFAULT_POSITIONS),
        bos_token_id=getattr(config, "bos_token_id", None),
        eos_token_id=getattr(config, "eos_token_id", None),
        pad_token_id=getattr(config, "pad_token_id", None),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
    )
