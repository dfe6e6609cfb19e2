"""The interface of a session's model: arrays for a run, the run, and copies of the KV cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .contract import GraphFacts

TokenIds: TypeAlias = NDArray[np.int64]
"""An array of token ids, `[B, S]` or `[B]` int64."""

Logits: TypeAlias = NDArray[np.float32]
"""An array of next-token logits, `[B, V]` float32, or `[B, S, V]` for several tokens."""

DEFAULT_MAX_LENGTH = 32768
"""The most cache slots of a model that does not record its limit."""

MIN_CAPACITY = 256
"""The number of cache slots allocated at first; it doubles whenever they run out."""


@dataclass
class RunArrays:
    """The host arrays of one run: a layout fills the inputs, a model reads them and writes the logits.

    Attributes:
        inputs: Inputs of the model by their names in the graph, except the KV cache and the attention mask;
            `input_ids` is `[B, S]`.
        logits: Logits of each row's last R tokens, `[B, R, V]` float32, or, for a model with the input `last_index`,
            of that token, `[B, 1, V]`.
        handles: Model's own data for the arrays, such as ONNX Runtime's values over them.
        mask: Attention mask `[B, total]` as the model's `put` returned it; None for a model without this input.
        past: Cache slots that the run reads.
        total: Cache slots after the run.
    """

    inputs: dict[str, NDArray[Any]]
    logits: Logits
    handles: dict[str, Any] = field(default_factory=dict)
    mask: Any = None
    past: int = 0
    total: int = 0

    @property
    def first(self) -> int:
        """The index in the chunk of the first token whose logits are computed."""
        return int(self.inputs["input_ids"].shape[1] - self.logits.shape[1])


class Model(Protocol):
    """A decoder with its KV cache, run one chunk at a time: `OrtModel` or `TensorRTModel`.

    Attributes:
        facts: The sizes and types of the model's inputs and outputs.
        device: `cpu` or `cuda`.
        max_length: Most cache slots of a row.
        remedy: Advice for a user who needs more cache slots.
        run_s: Seconds spent so far inside the runs of ONNX Runtime, or of TensorRT with its copies.
    """

    facts: GraphFacts
    device: str
    max_length: int
    remedy: str
    run_s: float

    @property
    def chunk(self) -> int:
        """The most tokens of a row in one run."""
        ...

    @property
    def kv_cache_bytes(self) -> int:
        """The bytes of the KV cache's buffers."""
        ...

    def reserve(self, batch_size: int, max_length: int) -> None:
        """Reserve memory for a batch; buffers are kept where both numbers are the same as in the call before.

        Args:
            batch_size: Number of rows B.
            max_length: Most cache slots that a run will use.

        Raises:
            MissingError: There is not enough memory.
            UsageError: The model runs fewer rows at once.
        """
        ...

    def put(self, array: NDArray[Any]) -> Any:
        """A handle of a host array, for `RunArrays.mask`."""
        ...

    def arrays(self, size: int, first: int = 0) -> RunArrays:
        """The arrays for a chunk; for a small chunk the same objects at every call.

        Args:
            size: Number of tokens S of a row.
            first: Index of the first token whose logits are needed; a model may compute more.

        Raises:
            MissingError: There is not enough memory.
        """
        ...

    def run(self, arrays: RunArrays) -> None:
        """Run a chunk after the first `past` slots of the cache; a run that fails leaves the cache as it was.

        Raises:
            ArtifactError: The model failed.
            MissingError: There is not enough memory, or the device failed.
        """
        ...

    def cache(self, slots: int) -> list[NDArray[Any]]:
        """A copy of the first `slots` of the KV cache: key and value of each layer, `[B, H_kv, slots, D]`."""
        ...

    def restore(self, cache: Sequence[NDArray[Any]], length: int) -> None:
        """Replace the first slots of the KV cache.

        Args:
            cache: Key and value of each layer as `cache` gave them, `[B, H_kv, length, D]`.
            length: Number of slots, at most the reserved ones.

        Raises:
            MissingError: There is not enough memory, or the device failed.
        """
        ...

    def experts(self) -> list[NDArray[np.int64]]:
        """The experts that the last run chose, `[B, S, k]` int64 for each layer; empty if the graph lacks them."""
        ...


def grown_capacity(needed: int, limit: int) -> int:
    """The number of slots to allocate for `needed` ones: a power of two from `MIN_CAPACITY` up, at most `limit`."""
    return min(limit, max(MIN_CAPACITY, 1 << max(needed - 1, 0).bit_length()))
