"""What a session asks of a model: arrays for a run, the run, and a look at the KV cache."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .graph_facts import GraphFacts

TokenIds: TypeAlias = NDArray[np.int64]
"""Token ids, `[B, S]` or `[B]` int64."""

Logits: TypeAlias = NDArray[np.float32]
"""Next-token logits, `[B, V]` float32, or `[B, S, V]` for those of several tokens."""

DEFAULT_MAX_LENGTH = 32768
"""Most cache slots of a model that does not tell its own limit."""

MIN_CAPACITY = 256
"""Cache slots that are allocated at first; they are doubled whenever they run out."""


@dataclass
class RunArrays:
    """The host arrays of one run: a layout fills the inputs, a model reads them and writes the logits.

    Attributes:
        inputs: Every input of the model except the KV cache and the attention mask, by its name in the graph;
            `input_ids` is `[B, S]`.
        logits: `[B, R, V]` float32: of each row's last R tokens, or, where the model takes `last_index`, `[B, 1, V]` of
            that token.
        handles: What a model keeps next to the arrays, such as ONNX Runtime's values over them.
        mask: The attention mask `[B, total]` as the model's `put` returned it; None for a model without this input.
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
        """Index in the chunk of the first token whose logits are computed."""
        return int(self.inputs["input_ids"].shape[1] - self.logits.shape[1])


class Model(Protocol):
    """A decoder and its KV cache, run one chunk at a time; `OrtModel` and `TensorRTModel` are the two there are.

    Attributes:
        facts: The sizes and types of the model's inputs and outputs.
        device: `cpu` or `cuda`.
        max_length: Most cache slots of a row.
        remedy: What a user can do where these are not enough.
        run_s: Seconds spent so far inside the model's own run: ONNX Runtime's, or TensorRT's with its copies.
    """

    facts: GraphFacts
    device: str
    max_length: int
    remedy: str
    run_s: float

    @property
    def chunk(self) -> int:
        """Most tokens of a row in one run."""
        ...

    @property
    def kv_cache_bytes(self) -> int:
        """Bytes of the KV cache's buffers."""
        ...

    def reserve(self, batch_size: int, max_length: int) -> None:
        """Get ready for a batch: buffers are kept where both numbers are those of the call before.

        Args:
            batch_size: Rows, B.
            max_length: Most cache slots that a run will ask for.

        Raises:
            MissingError: There is no memory.
            UsageError: The model runs fewer rows.
        """
        ...

    def put(self, array: NDArray[Any]) -> Any:
        """A handle of a host array that `RunArrays.mask` takes."""
        ...

    def arrays(self, size: int, first: int = 0) -> RunArrays:
        """Arrays for a chunk; those of a small chunk are the same objects at every call.

        Args:
            size: S, tokens of a row.
            first: Index of the first token whose logits are wanted; a model may compute more.

        Raises:
            MissingError: There is no memory.
        """
        ...

    def run(self, arrays: RunArrays) -> None:
        """Run a chunk after the first `past` slots of the cache; where that fails, the cache is as it was.

        Raises:
            ArtifactError: The model failed.
            MissingError: There is no memory, or the device failed.
        """
        ...

    def cache(self, slots: int) -> list[NDArray[Any]]:
        """A copy of the first slots of each key and value in turn, `[B, H_kv, slots, D]`."""
        ...

    def experts(self) -> list[NDArray[np.int64]]:
        """The experts that the last run chose in each layer, `[B, S, k]`; empty where the model does not show them."""
        ...


def grown_capacity(needed: int, limit: int) -> int:
    """Slots to allocate for `needed` ones: a power of two, at least `MIN_CAPACITY`, but at most `limit`."""
    return min(limit, max(MIN_CAPACITY, 1 << max(needed - 1, 0).bit_length()))
