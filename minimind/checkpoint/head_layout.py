"""How the rows of q and k divide into heads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import CheckpointError, ConfigError

HEAD_FIELDS = ("num_attention_heads", "num_key_value_heads", "head_dim")


@dataclass(frozen=True)
class HeadLayout:
    """Head counts and width, in `MiniMindConfig`'s field names.

    Attributes:
        fields: The three of `HEAD_FIELDS`.
        certain: Nothing had to be assumed.
    """

    fields: dict[str, int]
    certain: bool


def find_head_layout(query_rows: int, key_rows: int, known: Mapping[str, int], assumed_heads: int) -> HeadLayout:
    """Solve query_rows = heads * D and key_rows = kv_heads * D; any one of the three unknowns settles the others.

    Args:
        query_rows: Rows of q_proj.
        key_rows: Rows of k_proj.
        known: Those of `HEAD_FIELDS` that a norm's length or a configuration tells.
        assumed_heads: Query heads where none is known.

    Raises:
        ConfigError: What is known contradicts the rows or itself.
        CheckpointError: Nothing is known, and the assumed count does not fit.
    """
    head_dim = _head_dim(query_rows, key_rows, known, assumed_heads)
    found = (query_rows // head_dim, key_rows // head_dim, head_dim)
    fields = dict(zip(HEAD_FIELDS, found, strict=True))
    divides = query_rows % head_dim == 0 and key_rows % head_dim == 0
    if not divides or any(fields[name] != value for name, value in known.items()):
        told = ", ".join(f"{name} {value}" for name, value in known.items())
        raise ConfigError(
            f"{told}: contradicts the tensors, where q_proj has {query_rows} rows and k_proj {key_rows}; "
            "expected num_attention_heads * head_dim and num_key_value_heads * head_dim"
        )
    return HeadLayout(fields, certain=bool(known))


def _head_dim(query_rows: int, key_rows: int, known: Mapping[str, int], assumed_heads: int) -> int:
    """Width of a head, at least 1; whether it divides the rows is for the caller to see where it is not assumed."""
    if "head_dim" in known:
        return known["head_dim"]
    if "num_attention_heads" in known:
        return max(query_rows // known["num_attention_heads"], 1)
    if "num_key_value_heads" in known:
        return max(key_rows // known["num_key_value_heads"], 1)
    head_dim, rest = divmod(query_rows, assumed_heads)
    if rest or head_dim % 2 or key_rows % head_dim or query_rows % key_rows:
        raise CheckpointError(
            f"the shapes leave the number of heads open, and {assumed_heads} do not fit q_proj's {query_rows} and "
            f"k_proj's {key_rows} rows; give num_attention_heads in a config"
        )
    return head_dim
