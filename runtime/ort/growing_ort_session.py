"""A session on ONNX Runtime for graphs of target `tensorrt` with a growing cache, as older TensorRT takes them."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ArtifactError
from ..session.growing_session import GrowingSession
from ..session.session import Logits, TokenIds
from .bound_graph import BoundGraph
from .kv_cache import GrowingCache
from .static_ort_session import PREFILL_CHUNK, REMEDY


class GrowingOrtSession(GrowingSession):
    """A `Session` that runs a graph which joins past and chunk, in two sets of buffers that take turns.

    Args:
        onnxruntime: The module.
        session: Its session for the graph.
        max_length: Most cache slots, None for the graph's own limit, which stands where it is less.
        prefill_chunk: Most prompt tokens of a row in one run.

    Attributes:
        facts: What the graph says of itself.
        device: `cpu` or `cuda`.

    Raises:
        ArtifactError: The graph is not what this session runs.
        UsageError: A number is less than 1.
    """

    def __init__(
        self,
        onnxruntime: ModuleType,
        session: Any,
        *,
        max_length: int | None = None,
        prefill_chunk: int = PREFILL_CHUNK,
    ) -> None:
        self._graph = BoundGraph(onnxruntime, session)
        self.facts, self.device = self._graph.facts, self._graph.device
        if (self.facts.target, self.facts.cache) != ("tensorrt", "growing"):
            raise ArtifactError(f"the graph has a {self.facts.cache} cache: a session of another kind runs it")
        self._rows_reserved = 0
        limit = self._graph.max_length
        super().__init__(
            vocab_size=self.facts.vocab_size,
            max_length=limit if max_length is None else min(limit, max_length),
            chunk=prefill_chunk,
            remedy=REMEDY,
        )

    def _reserve(self, batch_size: int) -> None:
        """See `ChunkSession._reserve`; buffers are kept where the batch size is."""
        if batch_size == self._rows_reserved:
            return
        self._rows_reserved = batch_size
        graph = self._graph
        graph.clear()
        self._cache = GrowingCache(self.facts, graph.binding, graph.memory, batch_size, self._max_length)
        self._logits: Logits = np.zeros((batch_size, 1, self.vocab_size), np.float32)

    def _run(self, tokens: TokenIds, mask: NDArray[np.bool_], positions: TokenIds, last: TokenIds) -> Logits:
        """See `GrowingSession._run`; where it fails, the session is as it was."""
        total = mask.shape[1]
        past = total - tokens.shape[1]
        inputs = {"input_ids": tokens, "attention_mask": mask, "position_ids": positions, "last_index": last}
        arrays = {name: np.ascontiguousarray(array, np.int32) for name, array in inputs.items()}
        self._graph.bind(arrays, self._logits)
        self._graph.run(self._cache, past, total)
        return self._logits[:, 0]
