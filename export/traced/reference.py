"""What a model's own code says, as the comparison asks for it: nothing of it is exchanged or traced."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from .owner import KeyValue, OwnModel


@dataclass(frozen=True)
class ReferenceOutput:
    """Logits [B, S, V], and a (key, value) per layer, each [B, H_kv, T, D]."""

    logits: torch.Tensor
    past_key_values: list[KeyValue]


class EagerReference(nn.Module):
    """A changed model behind the interface of `MiniMindForCausalLM`, run by its owner's code.

    Positions that count on from the past are left to code that has no `position_ids`; for others its tables of angles
    are read by position.

    Args:
        own: The model.
    """

    def __init__(self, own: OwnModel) -> None:
        super().__init__()
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
