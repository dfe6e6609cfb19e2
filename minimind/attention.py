"""Grouped-query attention with a key-value cache."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention, softmax

from .config import MiniMindConfig
from .mask import causal_bias
from .norm import RMSNorm
from .rope import apply_rotary_pos_emb

KeyValue = tuple[torch.Tensor, torch.Tensor]


def repeat_kv(x: torch.Tensor, n_rep: int) -> torch.Tensor:
    """Repeat each key or value head for the query heads that share it: [B, S, H_kv, D] to [B, S, H_kv * n_rep, D]."""
    batch, length, heads, dim = x.shape
    if n_rep == 1:
        return x
    return x[:, :, :, None, :].expand(batch, length, heads, n_rep, dim).reshape(batch, length, heads * n_rep, dim)


def rows_of_tokens(
    position_embeddings: tuple[torch.Tensor, torch.Tensor], length: int, past_key_value: KeyValue | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The cosine and sine of the `length` tokens after the past: the tables themselves, or their rows P to P+S-1.

    Raises:
        ValueError: The tables have more rows than tokens and end before the last token's position.
    """
    cos, sin = position_embeddings
    rows = cos.shape[-2]
    if rows <= length:
        return cos, sin
    past = 0 if past_key_value is None else past_key_value[0].shape[2]
    if past + length > rows:
        raise ValueError(f"position_embeddings have {rows} rows; expected {length}, or at least {past + length}")
    return cos[..., past : past + length, :], sin[..., past : past + length, :]


class Attention(nn.Module):
    """Causal self-attention in which groups of query heads share a key and a value head.

    Source:
        Vaswani et al. 2017, "Attention Is All You Need", equation 1; Ainslie et al. 2023, "GQA", section 2.2.
        Query and key normalisation: Henry et al. 2020, "Query-Key Normalization for Transformers", with RMSNorm.
    """

    def __init__(self, config: MiniMindConfig) -> None:
        super().__init__()
        self.num_heads = config.num_attention_heads
        self.num_key_value_heads = config.num_key_value_heads
        self.n_rep = self.num_heads // self.num_key_value_heads
        self.head_dim = config.head_dim
        query_width, key_width = self.num_heads * self.head_dim, self.num_key_value_heads * self.head_dim
        self.q_proj = nn.Linear(config.hidden_size, query_width, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, key_width, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, key_width, bias=False)
        self.o_proj = nn.Linear(query_width, config.hidden_size, bias=False)
        self.q_norm = RMSNorm(self.head_dim, config.rms_norm_eps) if config.qk_norm else nn.Identity()
        self.k_norm = RMSNorm(self.head_dim, config.rms_norm_eps) if config.qk_norm else nn.Identity()
        self.attn_dropout = nn.Dropout(config.dropout)
        self.resid_dropout = nn.Dropout(config.dropout)
        self.flash = config.flash_attn

    def forward(
        self,
        x: torch.Tensor,
        position_embeddings: tuple[torch.Tensor, torch.Tensor],
        past_key_value: KeyValue | None = None,
        use_cache: bool = False,
        attention_mask: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, KeyValue | None]:
        """Attend from every token of `x` to the past, to the tokens before it and to itself.

        Args:
            x: Normalised hidden states, [B, S, H].
            position_embeddings: (cos, sin), each [S, D] or [B, S, D] float32. Of tables with more rows than
                tokens, rows P to P+S-1 are taken.
            past_key_value: Keys and values before `x`, each [B, H_kv, P, D], or None.
            use_cache: Return keys and values, past included.
            attention_mask: None; [B, P+S] with 1 for real tokens; or the bias of `causal_bias`, [B, 1, S, P+S].

        Returns:
            The output [B, S, H], and (key, value), each [B, H_kv, P+S, D], or None.

        Raises:
            ValueError: The tables have more rows than tokens and end before the last token's position.
        """
        q, k, v = self._project(x)
        cos, sin = rows_of_tokens(position_embeddings, x.shape[1], past_key_value)
        q, k = apply_rotary_pos_emb(q, k, cos, sin, unsqueeze_dim=cos.dim() - 1)
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        bias = self._bias(q, past_key_value, attention_mask)
        if past_key_value is not None:
            k = torch.cat((past_key_value[0], k), dim=2)
            v = torch.cat((past_key_value[1], v), dim=2)
        mixed = self._fused(q, k, v, bias) if self.flash else self._written_out(q, k, v, bias)
        output = self.o_proj(mixed.transpose(1, 2).flatten(2))
        return self.resid_dropout(output), (k, v) if use_cache else None

    def _project(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The queries [B, S, H_q, D], keys and values [B, S, H_kv, D] of `x`."""
        heads = (-1, self.head_dim)
        q = self.q_norm(self.q_proj(x).unflatten(-1, heads))
        k = self.k_norm(self.k_proj(x).unflatten(-1, heads))
        return q, k, self.v_proj(x).unflatten(-1, heads)

    def _bias(
        self, q: torch.Tensor, past_key_value: KeyValue | None, attention_mask: torch.Tensor | None
    ) -> torch.Tensor | None:
        """The additive bias [B or 1, 1, S, P+S]; None for a causal mask without past and padding."""
        if attention_mask is None and past_key_value is None:
            return None
        if attention_mask is not None and attention_mask.dim() == 4:
            return attention_mask
        length = q.shape[2]
        past = 0 if past_key_value is None else past_key_value[0].shape[2]
        return causal_bias(attention_mask, length, past + length, q.dtype, q.device)

    def _fused(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """Attention by PyTorch's kernel, [B, H_q, S, D]; heads are repeated because its fast kernels need that."""
        k, v = (repeat_kv(x.transpose(1, 2), self.n_rep).transpose(1, 2) for x in (k, v))
        dropout = self.attn_dropout.p if self.training else 0.0
        return scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=dropout, is_causal=bias is None)

    def _written_out(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        """Attention by plain operators, [B, H_q, S, D]; a group's query heads are stacked, so keys are not repeated."""
        length, keys = q.shape[2], k.shape[2]
        if bias is None:
            bias = causal_bias(None, length, keys, q.dtype, q.device)
        stacked = q.reshape(q.shape[0], self.num_key_value_heads, self.n_rep * length, self.head_dim)
        scores = (stacked * (1 / math.sqrt(self.head_dim))) @ k.transpose(2, 3)
        grouped = scores.unflatten(2, (self.n_rep, length)) + bias[:, :, None]
        weights = self.attn_dropout(softmax(grouped.float(), dim=-1).type_as(q))
        mixed: torch.Tensor = (weights.flatten(2, 3) @ v).unflatten(2, (self.n_rep, length)).flatten(1, 2)
        return mixed
