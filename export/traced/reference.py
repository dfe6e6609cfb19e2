"""A model's own code as the reference of a comparison: none of it is replaced or traced."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from ..parity.case import Chunk
from ..parity.reference import EagerOutput, ModelShape
from .owner import KeyValue, OwnersModel


@dataclass(frozen=True)
class ReferenceOutput:
    """Logits [B, S, V], and a (key, value) per layer, each [B, H_kv, T, D]."""

    logits: torch.Tensor
    past_key_values: list[KeyValue]


class OwnersReference(nn.Module):
    """A changed model by its owner's code, with the protocol `parity.reference.EagerReference` and with `forward`.

    Code without `position_ids` counts positions on from the past by itself; for any other positions, its tables of
    angles are read by position.

    Args:
        own: The changed model.
        name: The name of its code, such as `my_model.py:MyMiniMind`; None for the name of the class.
    """

    def __init__(self, own: OwnersModel, name: str | None = None) -> None:
        super().__init__()
        facts = own.facts
        self.name = name or type(own.model).__name__
        self.shape = ModelShape(
            vocab_size=facts.vocab_size,
            num_hidden_layers=facts.num_hidden_layers,
            num_key_value_heads=facts.num_key_value_heads,
            head_dim=facts.head_dim,
            max_position_embeddings=facts.max_position_embeddings,
        )
        self._past: list[KeyValue] | None = None
        self.own_model = own.model
        self.config = own.facts
        self._own = own

    def forward(  # noqa: PLR0917
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: list[KeyValue] | None = None,
        use_cache: bool = True,
        logits_to_keep: int = 0,
    ) -> ReferenceOutput:
        """Run the model; see `MiniMindForCausalLM.forward`."""
        past = past_key_values[0][0].shape[2] if past_key_values else 0
        length = input_ids.shape[1]
        counted = torch.arange(past, past + length)[None].expand(len(input_ids), length)
        if attention_mask is not None and position_ids is None:
            position_ids = (attention_mask.cumsum(-1) - 1).clamp(min=0)[:, past:]
        positions = counted if position_ids is None else position_ids
        if self._own.takes_positions:
            mask = torch.ones(len(input_ids), past + length, dtype=torch.int64)
            mask = mask if attention_mask is None else attention_mask
            logits, presents = self._own.call(input_ids, mask, positions, past_key_values)
        else:
            mine = None if torch.equal(positions, counted) else positions
            logits, presents = self._own.call(input_ids, attention_mask, mine, past_key_values)
        return ReferenceOutput(logits[:, -logits_to_keep:] if logits_to_keep else logits, presents)

    def run(self, chunk: Chunk) -> EagerOutput:
        """Run a chunk of one unpadded row after its past; one that starts at slot 0 begins anew."""
        with torch.inference_mode():
            output = self(
                torch.from_numpy(chunk.input_ids),
                position_ids=torch.from_numpy(chunk.position_ids),
                past_key_values=self._past if chunk.start else None,
            )
        self._past = output.past_key_values
        presents = [(key.numpy(), value.numpy()) for key, value in output.past_key_values]
        return EagerOutput(output.logits.numpy(), presents)

    def release(self) -> None:
        """Free the cache; the model belongs to its owner and stays."""
        self._past = None
