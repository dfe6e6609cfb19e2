"""The head counts and the head width, from the rows of the q and k projections."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import CheckpointError, ConfigError

HEAD_FIELDS = ("num_attention_heads", "num_key_value_heads", "head_dim")


@dataclass(frozen=True)
class HeadLayout:
    """The head counts and the head width, in `MiniMindConfig`'s field names.

    Attributes:
        fields: Values of the three fields of `HEAD_FIELDS`.
        certain: Whether no value had to be assumed.
    """

    fields: dict[str, int]
    certain: bool


def find_head_layout(query_rows: int, key_rows: int, known: Mapping[str, int], assumed_heads: int) -> HeadLayout:
    """Solve query_rows = heads * D and key_rows = kv_heads * D; any one of the three unknowns settles the others.

    Args:
        query_rows: Number of rows of q_proj.
        key_rows: Number of rows of k_proj.
        known: Fields of `HEAD_FIELDS` that a norm's length or a configuration gives.
        assumed_heads: Number of query heads to assume where no field is known.

    Raises:
        ConfigError: The known fields contradict the rows or each other.
        CheckpointError: No field is known, and the assumed count does not fit.
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
    """The width of a head, at least 1; where it is not assumed, the caller checks that it divides the rows."""
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
