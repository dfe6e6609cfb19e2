"""The graph contract: names, axes and types of inputs, outputs and metadata, and a graph's own facts, checked."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ArtifactError

INPUT_IDS = "input_ids"
ATTENTION_MASK = "attention_mask"
POSITION_IDS = "position_ids"
WRITE_INDICES = "write_indices"
LAST_INDEX = "last_index"
LOGITS_START = "logits_start"
ROW_LENGTHS, ROW_TOKENS = "row_lengths", "row_tokens"
LOGITS = "logits"

PAST_KEY_VALUES, PRESENT = "past_key_values", "present"
"""The name prefixes of the KV cache's inputs and outputs."""

BATCH, SEQUENCE = "batch_size", "sequence_length"
"""The axes of a run: rows B, and tokens S of each row."""

PAST, TOTAL = "past_sequence_length", "total_sequence_length"
"""The axes of a growing KV cache: slots P before a run, and P+S after it."""

CAPACITY = "kv_capacity"
"""The axis of a KV cache of fixed size, which building a plan replaces by a number."""

ROWS = "rows"
"""The axis of `row_lengths` and `row_tokens` of target `ort`: the rows of a run, or 1 where they are not given."""

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

ROWS_CACHE = "rows"
"""The form of a KV cache in which each row has its own length, so that padding takes no slots."""

CACHES = {"portable": ("growing",), "ort": ("shared", ROWS_CACHE), "tensorrt": ("static",)}
"""The forms of the KV cache that each target's graphs may have, first the one of graphs whose metadata lacks it."""

METADATA_PREFIX = "minimind_edge."
"""The prefix of this project's keys in a graph's metadata."""

CACHE_PROPERTY = f"{METADATA_PREFIX}cache"
"""The key in a graph's metadata with the form of its KV cache."""

OPTIONAL_INPUTS_PROPERTY = f"{METADATA_PREFIX}optional_inputs"
"""The key in a graph's metadata that names its optional inputs, with commas between them."""

OPERATORS_PROPERTY = f"{METADATA_PREFIX}operators"
"""The key in the metadata of a graph in memory that says whose operators it has; files do not have it."""

STOCK, NATIVE = "stock", "native"
"""The values of `OPERATORS_PROPERTY`: ONNX Runtime's operators only, or those of minimind-edge-native too."""

OPTIONAL_INPUTS: dict[str, tuple[str, str | int]] = {
    LOGITS_START: ("int64", 1),
    ROW_LENGTHS: ("int32", ROWS),
    ROW_TOKENS: ("int32", ROWS),
}
"""Element type and axis of each optional input of target `ort`. In the graph's file they are constants, which are the
defaults; the runtime makes them inputs when it loads the file."""


def cache_names(prefix: str, num_layers: int) -> list[str]:
    """The names of the cached tensors by layer, key before value."""
    return [name for layer in range(num_layers) for name in layer_cache_names(prefix, layer)]


def layer_cache_names(prefix: str, layer: int) -> tuple[str, str]:
    """The names of one layer's cached key and value."""
    return f"{prefix}.{layer}.key", f"{prefix}.{layer}.value"


MOST = (1 << 31) - 1
"""The largest plausible size of an axis or number in the metadata."""

KV_DTYPES: dict[str, np.dtype[Any]] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(float16)": np.dtype(np.float16),
    "tensor(int8)": np.dtype(np.int8),
}


@dataclass(frozen=True)
class GraphFacts:
    """The facts of a causal language model's graph that running it requires.

    Attributes:
        target: Target of the graph: `portable`, `ort` or `tensorrt`.
        num_layers: Number of layers, each with a cached key and value.
        num_key_value_heads: Number of key and value heads H_kv.
        head_dim: Width D of a head.
        kv_dtype: Element type of the KV cache: float32, float16, or int8, whose scales are inside the graph.
        vocab_size: Size V of the vocabulary.
        max_length: Most cache slots, None if not recorded.
        precision: Precision of the weights, None if not recorded.
        generation: Generation of the checkpoint, None if not recorded.
        eos_token_ids: Token ids that end a text, empty if not recorded.
        cache: Form of the KV cache: `growing`, `shared` (one buffer for past and present), `rows` (one buffer too,
            where each row has its own length) or `static` (the same, where each row is written at its own index).
        operators: `native` where operators of minimind-edge-native run the graph, else `stock`.
    """

    target: str
    num_layers: int
    num_key_value_heads: int
    head_dim: int
    kv_dtype: np.dtype[Any]
    vocab_size: int
    max_length: int | None
    precision: str | None
    generation: str | None
    eos_token_ids: tuple[int, ...]
    cache: str
    operators: str = STOCK

    @property
    def gives_all_logits(self) -> bool:
        """Whether a run gives the logits of every token of a chunk, instead of one token of each row."""
        return self.target != "tensorrt"

    @property
    def has_row_lengths(self) -> bool:
        """Whether each row has its own length, so that its positions are its slots, which a run counts by itself."""
        return self.cache in ("static", ROWS_CACHE)

    @property
    def has_int8_cache(self) -> bool:
        """Whether the KV cache is int8."""
        return self.kv_dtype == np.int8

    @property
    def kv_bytes_per_slot(self) -> int:
        """The bytes of one slot of one row in the KV cache, keys and values of all layers."""
        return 2 * self.num_layers * self.num_key_value_heads * self.head_dim * self.kv_dtype.itemsize

    @classmethod
    def read(cls, inputs: Sequence[Any], outputs: Sequence[Any], metadata: Mapping[str, str]) -> GraphFacts:
        """Check a graph's interface against the contract.

        Args:
            inputs: ONNX Runtime's description of each input: `name`, `type` and `shape`.
            outputs: ONNX Runtime's description of each output.
            metadata: The graph's metadata properties.

        Raises:
            ArtifactError: A name, a type or a shape violates the contract.
        """
        num_layers = sum(node.name.endswith(".key") for node in inputs)
        if not num_layers:
            raise ArtifactError("the graph has no past_key_values: it is no decoder with a cache; export it with one")
        pasts, presents = cache_names(PAST_KEY_VALUES, num_layers), cache_names(PRESENT, num_layers)
        target = _target_of(metadata)
        cache = _cache_of(metadata, target)
        own = INPUTS[target]
        _check_names("inputs", (node.name for node in inputs), (*own, *pasts))
        _check_names("outputs", (node.name for node in outputs), (LOGITS, *presents))
        nodes = {node.name: node for node in (*inputs, *outputs)}
        _check_types([nodes[name] for name in own], {f"tensor({INPUT_DTYPES[target]})"})
        _check_types([nodes[LOGITS]], {"tensor(float)"})
        _check_types([nodes[name] for name in pasts], KV_DTYPES.keys() - ({"tensor(int8)"} if target != "ort" else ()))
        _check_types([nodes[name] for name in (*pasts, *presents)], {nodes[pasts[0]].type})
        heads, head_dim = _cache_dims([nodes[name] for name in pasts])
        vocab_size = (nodes[LOGITS].shape or [None])[-1]
        if not isinstance(vocab_size, int) or not 0 < vocab_size <= MOST:
            raise ArtifactError(f"the graph's logits have no fixed vocabulary size (found {vocab_size!r})")
        return cls(
            target=target,
            num_layers=num_layers,
            num_key_value_heads=heads,
            head_dim=head_dim,
            kv_dtype=KV_DTYPES[nodes[pasts[0]].type],
            vocab_size=vocab_size,
            max_length=_max_length(metadata),
            precision=metadata.get(f"{METADATA_PREFIX}precision"),
            generation=metadata.get(f"{METADATA_PREFIX}generation"),
            eos_token_ids=metadata_integers(metadata, "eos_token_id"),
            cache=cache,
            operators=NATIVE if metadata.get(OPERATORS_PROPERTY) == NATIVE else STOCK,
        )


def _check_names(kind: str, found: Iterable[str], expected: Iterable[str]) -> None:
    found, expected = set(found), set(expected)
    if found != expected:
        lacks, has = (", ".join(sorted(names)[:4]) for names in (expected - found, found - expected))
        differences = [f"lacks {lacks}" if lacks else "", f"has {has}, which this runtime does not know" if has else ""]
        raise ArtifactError(f"the graph's {kind}: it {' and '.join(filter(None, differences))}")


def _check_types(nodes: Iterable[Any], expected: Collection[str]) -> None:
    for node in nodes:
        if node.type not in expected:
            raise ArtifactError(f"the graph's {node.name} is {node.type}, expected {' or '.join(sorted(expected))}")


def _cache_dims(pasts: Iterable[Any]) -> tuple[int, int]:
    """The number of heads H_kv and the width D of a head in the KV cache, the same for every layer."""
    found = {(node.shape[1], node.shape[3]) if len(node.shape) == 4 else tuple(node.shape) for node in pasts}
    dims = found.pop()
    if found or len(dims) != 2 or not all(isinstance(dim, int) and 0 < dim <= MOST for dim in dims):
        raise ArtifactError(f"the graph's cache must be [B, H_kv, P, D] with one H_kv and D, found {dims} in one layer")
    return dims[0], dims[1]


def _target_of(metadata: Mapping[str, str]) -> str:
    """The target of a graph; one that does not record it runs as `portable`.

    Raises:
        ArtifactError: This runtime does not know the target.
    """
    target = metadata.get(f"{METADATA_PREFIX}target", "portable")
    if target not in INPUTS:
        raise ArtifactError(f"the graph is for target {target!r}; this runtime runs {', '.join(INPUTS)}")
    return target


def _cache_of(metadata: Mapping[str, str], target: str) -> str:
    """The form of the graph's KV cache."""
    found = metadata.get(CACHE_PROPERTY, CACHES[target][0])
    if found not in CACHES[target]:
        known = " or ".join(CACHES[target])
        raise ArtifactError(
            f"the graph of target {target} has a {found} cache, this runtime runs {known}: export it again"
        )
    return found


def _max_length(metadata: Mapping[str, str]) -> int | None:
    found = metadata_integers(metadata, "max_length")
    if found and (len(found) > 1 or not 1 <= found[0] <= MOST):
        raise ArtifactError(f"the graph's {METADATA_PREFIX}max_length must be one number, at least 1, found {found}")
    return found[0] if found else None


def metadata_integers(metadata: Mapping[str, str], key: str) -> tuple[int, ...]:
    """The integers of one property of a graph, none where it does not tell.

    Args:
        metadata: The graph's properties.
        key: The property's name without its prefix.

    Raises:
        ArtifactError: It holds something else, or a number that cannot be meant.
    """
    text = metadata.get(METADATA_PREFIX + key, "")
    try:
        found = tuple(int(part) for part in text.strip("[] ").split(",") if part)
    except ValueError as error:
        raise ArtifactError(f"the graph's {METADATA_PREFIX}{key} is {text[:40]!r}, expected integers") from error
    if any(abs(number) > MOST for number in found):
        raise ArtifactError(f"the graph's {METADATA_PREFIX}{key} is {text[:40]!r}: expected at most {MOST}")
    return found
