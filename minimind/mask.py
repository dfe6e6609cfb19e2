"""Which key each query may see, and which position each token has."""

from __future__ import annotations

import torch


def causal_bias(
    attention_mask: torch.Tensor | None, query_length: int, key_length: int, dtype: torch.dtype, device: torch.device
) -> torch.Tensor:
    """What to add to attention scores: 0 where a query may see a key, else a number that softmax turns into 0.

    Keys lie in slots 0 to T-1 and the queries in the last S of them; a query sees real slots up to its own. Half of
    the dtype's lowest number cannot overflow when a score is added, in float16 neither, and it leaves a row whose
    every key is masked finite: the output of a padding token is meaningless, but never NaN.

    Args:
        attention_mask: [B, T], 1 for real tokens and 0 for padding; None for no padding.
        query_length: S.
        key_length: T, past included.
        dtype: Of the scores.
        device: Where to make it.

    Returns:
        [B, 1, S, T], or [1, 1, S, T] without `attention_mask`.
    """
    keys = torch.arange(key_length, device=device)
    queries = torch.arange(key_length - query_length, key_length, device=device)
    visible = (keys <= queries[:, None])[None, None]
    if attention_mask is not None:
        visible = visible & attention_mask[:, None, None, :].bool()
    hidden = max(torch.finfo(dtype).min, torch.finfo(torch.float32).min) / 2  # float64 models softmax in float32 too
    return torch.where(visible, 0.0, hidden).to(dtype)


def positions_from_mask(attention_mask: torch.Tensor, query_length: int) -> torch.Tensor:
    """Position of each of the last S tokens: the real tokens before it in its row.

    Args:
        attention_mask: [B, T], 1 for real tokens and 0 for padding, on either side.
        query_length: S.

    Returns:
        [B, S] int64; padding gets some legal position.
    """
    counts = attention_mask.long().cumsum(-1)
    return (counts - 1).clamp(min=0)[:, attention_mask.shape[1] - query_length :]
