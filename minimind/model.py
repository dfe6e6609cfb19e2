"""The transformer without its head: from token ids to the final hidden states."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from .attention import Attention, KeyValue
from .config import MiniMindConfig
from .feed_forward import FeedForward
from .mask import causal_bias, positions_from_mask
from .moe import MOEFeedForward
from .norm import RMSNorm
from .rope import RotaryEmbedding


class MiniMindBlock(nn.Module):
    """One pre-norm transformer block: attention, then a feed-forward network or a mixture of experts.

    Args:
        layer_id: Index of the block, from 0.
        config: The architecture.
    """

    def __init__(self, layer_id: int, config: MiniMindConfig) -> None:
        super().__init__()
        self.layer_id = layer_id
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = MOEFeedForward(config) if config.use_moe else FeedForward(config)

    def forward(
        self,
        hidden_states: torch.Tensor,
        position_embeddings: tuple[torch.Tensor, torch.Tensor],
        past_key_value: KeyValue | None = None,
        use_cache: bool = False,
        attention_mask: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, KeyValue | None]:
        """Map hidden states [B, S, H] to [B, S, H], with the present key and value; arguments as in `Attention`."""
        attended, present_key_value = self.self_attn(
            self.input_layernorm(hidden_states), position_embeddings, past_key_value, use_cache, attention_mask
        )
        hidden_states = hidden_states + attended
        hidden_states = hidden_states + self.mlp(self.post_attention_layernorm(hidden_states))
        return hidden_states, present_key_value


class MiniMindModel(nn.Module):
    """The embedding, the blocks and the final norm."""

    def __init__(self, config: MiniMindConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(MiniMindBlock(index, config) for index in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.rotary_emb = RotaryEmbedding(config)

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        past_key_values: Sequence[KeyValue] | None = None,
        use_cache: bool = False,
        position_ids: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, list[KeyValue | None], torch.Tensor]:
        """Run all blocks over `input_ids`.

        Args:
            input_ids: Token ids, [B, S] int64.
            attention_mask: Mask [B, P+S], 1 for real tokens and 0 for padding on either side; None for no padding.
            past_key_values: A (key, value) per block, each [B, H_kv, P, D]; None for P = 0.
            use_cache: Return the keys and values.
            position_ids: Positions, [B, S] int64; None counts each row's real tokens.

        Returns:
            Hidden states [B, S, H], a (key, value) per block (None each without `use_cache`), the balancing loss.
        """
        past_length = past_key_values[0][0].shape[2] if past_key_values else 0
        hidden_states = self.dropout(self.embed_tokens(input_ids))
        bias = self._bias(hidden_states, attention_mask, past_length)
        if position_ids is None:
            position_ids = self._positions(input_ids, attention_mask, past_length)
        position_embeddings = self.rotary_emb(position_ids)
        presents = []
        for index, layer in enumerate(self.layers):
            past = past_key_values[index] if past_key_values else None
            hidden_states, present = layer(hidden_states, position_embeddings, past, use_cache, bias)
            presents.append(present)
        return self.norm(hidden_states), presents, self._aux_loss(hidden_states)

    def _bias(
        self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None, past_length: int
    ) -> torch.Tensor | None:
        """The additive mask for all blocks; None where the attention makes a causal mask itself."""
        if attention_mask is None and past_length == 0:
            return None
        length = hidden_states.shape[1]
        return causal_bias(attention_mask, length, past_length + length, hidden_states.dtype, hidden_states.device)

    @staticmethod
    def _positions(input_ids: torch.Tensor, attention_mask: torch.Tensor | None, past_length: int) -> torch.Tensor:
        length = input_ids.shape[1]
        if attention_mask is not None:
            return positions_from_mask(attention_mask, length)
        return torch.arange(past_length, past_length + length, device=input_ids.device)[None]

    def _aux_loss(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """The sum of the blocks' balancing losses in this pass; 0 outside of training and for dense models.

        It removes the losses from the blocks, where they would keep their graph alive and prevent copies of the model.
        """
        total = hidden_states.new_zeros((), dtype=torch.float32)
        if self.training:
            for layer in self.layers:
                if isinstance(layer.mlp, MOEFeedForward) and layer.mlp.aux_loss is not None:
                    total, layer.mlp.aux_loss = total + layer.mlp.aux_loss, None
        return total
