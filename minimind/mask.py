"""The causal mask, and the positions of tokens in padded rows."""

from __future__ import annotations

import torch


def causal_bias(
    attention_mask: torch.Tensor | None, query_length: int, key_length: int, dtype: torch.dtype, device: torch.device
) -> torch.Tensor:
    """The additive bias of attention scores: 0 where a query may see a key, else a number that softmax turns into 0.

    Keys are in slots 0 to T-1 and the queries in the last S of them; a query sees real slots up to its own. Half of
    the dtype's lowest number does not overflow when a score is added, not even in float16, and keeps a row finite in
    which every key is masked: the output of a padding token is meaningless, but never NaN.

    Args:
        attention_mask: Mask [B, T], 1 for real tokens and 0 for padding; None for no padding.
        query_length: Number of queries S.
        key_length: Number of keys T, past included.
        dtype: Dtype of the scores.
        device: Device of the result.

    Returns:
        The bias [B, 1, S, T], or [1, 1, S, T] without `attention_mask`.
    """
    keys = torch.arange(key_length, device=device)
    queries = torch.arange(key_length - query_length, key_length, device=device)
    visible = (keys <= queries[:, None])[None, None]
    if attention_mask is not None:
        visible = visible & attention_mask[:, None, None, :].bool()
    hidden = max(torch.finfo(dtype).min, torch.finfo(torch.float32).min) / 2  # float64 models softmax in float32 too
    return torch.where(visible, 0.0, hidden).to(dtype)


def positions_from_mask(attention_mask: torch.Tensor, query_length: int) -> torch.Tensor:
    """The position of each of the last S tokens: the number of real tokens before it in its row.

    Args:
        attention_mask: Mask [B, T], 1 for real tokens and 0 for padding, on either side.
        query_length: Number of tokens S.

    Returns:
        Positions, [B, S] int64; that of padding is valid but arbitrary.
    """
    counts = attention_mask.long().cumsum(-1)
    return (counts - 1).clamp(min=0)[:, attention_mask.shape[1] - query_length :]
