"""The contract between graphs and whoever runs them: names, axes and types of inputs, outputs and metadata."""

from __future__ import annotations

INPUT_IDS = "input_ids"
ATTENTION_MASK = "attention_mask"
POSITION_IDS = "position_ids"
WRITE_INDICES = "write_indices"
LAST_INDEX = "last_index"
LOGITS_START = "logits_start"
LOGITS = "logits"

PAST_KEY_VALUES, PRESENT = "past_key_values", "present"
"""The prefixes of the cache's inputs and outputs; see `cache_names`."""

BATCH, SEQUENCE = "batch_size", "sequence_length"
"""The axes of a step: rows B, and tokens S of each row."""

PAST, TOTAL = "past_sequence_length", "total_sequence_length"
"""The axes of a cache that grows: slots P before a step, and P+S after it."""

CAPACITY = "kv_capacity"
"""The axis of a cache of fixed size, which the engine builder replaces by a number."""

LOGITS_LENGTH = "logits_length"
"""The axis of target `ort`'s logits: the tokens from `logits_start` on."""

INPUTS = {
    "portable": (INPUT_IDS, ATTENTION_MASK, POSITION_IDS),
    "ort": (INPUT_IDS, ATTENTION_MASK, POSITION_IDS),
    "tensorrt": (INPUT_IDS, WRITE_INDICES, LAST_INDEX),
}
"""The inputs of each target's graphs that must be fed, without the cache."""

INPUT_DTYPES = {"portable": "int64", "ort": "int64", "tensorrt": "int32"}
"""The type of these inputs."""

CACHES = {"portable": "growing", "ort": "shared", "tensorrt": "static"}
"""How each target's graphs keep their cache, where their metadata does not say."""

METADATA_PREFIX = "minimind_edge."
"""The beginning of every key of ours in a graph's metadata."""


def cache_names(prefix: str, num_layers: int) -> list[str]:
    """Names of the cached tensors in the order of their layers, key before value."""
    return [name for layer in range(num_layers) for name in layer_cache_names(prefix, layer)]


def layer_cache_names(prefix: str, layer: int) -> tuple[str, str]:
    """Names of one layer's cached key and value."""
    return f"{prefix}.{layer}.key", f"{prefix}.{layer}.value"
