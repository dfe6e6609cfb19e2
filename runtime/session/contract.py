"""The graph contract: names, axes and types of the inputs, outputs and metadata of the graphs that sessions run."""

from __future__ import annotations

INPUT_IDS = "input_ids"
ATTENTION_MASK = "attention_mask"
POSITION_IDS = "position_ids"
WRITE_INDICES = "write_indices"
LAST_INDEX = "last_index"
LOGITS_START = "logits_start"
LOGITS = "logits"

PAST_KEY_VALUES, PRESENT = "past_key_values", "present"
"""The name prefixes of the KV cache's inputs and outputs."""

BATCH, SEQUENCE = "batch_size", "sequence_length"
"""The axes of a run: rows B, and tokens S of each row."""

PAST, TOTAL = "past_sequence_length", "total_sequence_length"
"""The axes of a growing KV cache: slots P before a run, and P+S after it."""

CAPACITY = "kv_capacity"
"""The axis of a KV cache of fixed size, which building a plan replaces by a number."""

LOGITS_LENGTH = "logits_length"
"""The axis of the logits of target `ort`: the tokens from `logits_start` on."""

INPUTS = {
    "portable": (INPUT_IDS, ATTENTION_MASK, POSITION_IDS),
    "ort": (INPUT_IDS, ATTENTION_MASK, POSITION_IDS),
    "tensorrt": (INPUT_IDS, WRITE_INDICES, LAST_INDEX),
}
"""The inputs of each target's graphs, without the KV cache."""

INPUT_DTYPES = {"portable": "int64", "ort": "int64", "tensorrt": "int32"}
"""The element type of the inputs in `INPUTS`, by target."""

CACHES = {"portable": "growing", "ort": "shared", "tensorrt": "static"}
"""The form of the KV cache of each target's graphs, for graphs whose metadata lacks it."""

METADATA_PREFIX = "minimind_edge."
"""The prefix of this project's keys in a graph's metadata."""


def cache_names(prefix: str, num_layers: int) -> list[str]:
    """The names of the cached tensors by layer, key before value."""
    return [name for layer in range(num_layers) for name in layer_cache_names(prefix, layer)]


def layer_cache_names(prefix: str, layer: int) -> tuple[str, str]:
    """The names of one layer's cached key and value."""
    return f"{prefix}.{layer}.key", f"{prefix}.{layer}.value"
