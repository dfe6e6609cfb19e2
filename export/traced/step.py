"""The module that is traced: a model's own code between the inputs and outputs of a target's graph."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import nn

from .experts import exchange_experts
from .owner import OwnersModel
from .rotary import TABLES, table_owners

TOKENS, PAST, BATCH = 3, 5, 2
"""The sizes of the example that is traced: all different, and neither 0 nor 1, which a trace takes for constants."""

TENSOR_SCATTER_OPSET = 24


class GrowingStep(nn.Module):
    """The inputs of target `portable`: the past goes in by value and comes out longer.

    Args:
        own: The changed model; a copy of its structure is adapted, the tensors are shared.
        max_length: The most positions, in tokens.
    """

    def __init__(self, own: OwnersModel, max_length: int) -> None:
        super().__init__()
        self.model, self.kept = traceable_copy(own, max_length)
        self.own = replace(own, model=self.model)

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        position_ids: torch.Tensor,
        past: list[torch.Tensor],
    ) -> tuple[torch.Tensor, ...]:
        """Logits [B, S, V], then each layer's present key and value [B, H_kv, P+S, D]."""
        return self.step(input_ids, attention_mask, position_ids, past)

    def step(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        position_ids: torch.Tensor,
        past: list[torch.Tensor],
    ) -> tuple[torch.Tensor, ...]:
        """See `forward`."""
        pairs = list(zip(past[::2], past[1::2], strict=True))
        # Code without positions subtracts its mask from 1, which cannot be traced for integers.
        mask = attention_mask if self.own.takes_positions else attention_mask.float()
        logits, presents = self.own.call(input_ids, mask, position_ids, pairs)
        return (logits, *(tensor for pair in presents for tensor in pair))

    def example(self) -> tuple[torch.Tensor | list[torch.Tensor], ...]:
        """The example inputs of the trace."""
        ids = torch.zeros((BATCH, TOKENS), dtype=torch.int64)
        mask = torch.ones((BATCH, PAST + TOKENS), dtype=torch.int64)
        positions = torch.arange(PAST, PAST + TOKENS)[None].repeat(BATCH, 1)
        return ids, mask, positions, self.example_past()

    def example_past(self) -> list[torch.Tensor]:
        """The example of each cached tensor: zeros."""
        facts = self.own.facts
        shape = BATCH, facts.num_key_value_heads, PAST, facts.head_dim
        return [torch.zeros(shape) for _ in range(2 * facts.num_hidden_layers)]

    def dynamic_shapes(self) -> tuple[object, ...]:
        """The dynamic axes of the inputs, for the exporter."""
        dim = torch.export.Dim
        batch, tokens, past = dim("batch"), dim("tokens"), dim("past", min=0)
        layers = [{0: batch, 2: past}] * (2 * self.own.facts.num_hidden_layers)
        return {0: batch, 1: tokens}, {0: batch, 1: dim.AUTO}, {0: batch, 1: tokens}, layers


class StaticStep(GrowingStep):
    """The inputs of target `tensorrt`: a cache of fixed size that is written in place.

    The model sees the whole cache as its past, with slots that hold nothing yet as padding, and its new tokens after
    it; the keys and values that it appends are then written into the cache's own slots.
    """

    def forward(
        self, input_ids: torch.Tensor, write_indices: torch.Tensor, last_index: torch.Tensor, past: list[torch.Tensor]
    ) -> tuple[torch.Tensor, ...]:
        """Logits [B, 1, V] of one token a row, then the cache [B, H_kv, C, D] with the new tokens in it."""
        first, capacity = write_indices.long()[:, None], past[0].shape[2]
        positions = first + torch.arange(input_ids.shape[1])[None]
        held = (torch.arange(capacity)[None] < first).long()
        mask = torch.cat((held, torch.ones_like(input_ids, dtype=torch.int64)), dim=1)
        logits, *presents = self.step(input_ids.long(), mask, positions, past)
        rows = last_index.long()[:, None, None].expand(-1, 1, logits.shape[-1])
        written = [_scattered(old, new[:, :, capacity:], first[:, 0]) for old, new in zip(past, presents, strict=True)]
        return (logits.gather(1, rows), *written)

    def example(self) -> tuple[torch.Tensor | list[torch.Tensor], ...]:
        """See `GrowingStep.example`."""
        ids = torch.zeros((BATCH, TOKENS), dtype=torch.int32)
        indices = torch.tensor([1, 2], dtype=torch.int32)
        return ids, indices, torch.tensor([0, 1], dtype=torch.int32), self.example_past()

    def dynamic_shapes(self) -> tuple[object, ...]:
        """See `GrowingStep.dynamic_shapes`."""
        dim = torch.export.Dim
        batch, tokens, capacity = dim("batch"), dim("tokens"), dim("capacity")
        layers = [{0: batch, 2: capacity}] * (2 * self.own.facts.num_hidden_layers)
        return {0: batch, 1: tokens}, {0: batch}, {0: batch}, layers


def traceable_copy(own: OwnersModel, max_length: int) -> tuple[nn.Module, list[str]]:
    """A copy of the model's structure around the same tensors, and the modules with experts that could not be replaced.

    Experts that branch on data are replaced where that changes nothing. Upstream's switch `flash` is turned off: the
    other branch computes the same, and is the one that supports a past.
    """
    shared = {id(tensor): tensor for tensor in (*own.model.parameters(), *own.model.buffers())}
    model = copy.deepcopy(own.model, shared)
    if not own.takes_positions:
        for owner, name in ((owner, name) for owner in table_owners(model) for name in TABLES):
            owner.register_buffer(name, owner.get_buffer(name)[:max_length], persistent=False)
        for module in model.modules():
            if hasattr(module, "flash"):
                setattr(module, "flash", False)  # noqa: B010 (its type is not known)
    return model, exchange_experts(model)


def _scattered(cache: torch.Tensor, new: torch.Tensor, first: torch.Tensor) -> torch.Tensor:
    scattered: torch.Tensor = torch.onnx.ops.symbolic(
        "TensorScatter",
        (cache, new.contiguous(), first),
        {"axis": -2},
        dtype=cache.dtype,
        shape=cache.shape,
        version=TENSOR_SCATTER_OPSET,
    )
    return scattered
