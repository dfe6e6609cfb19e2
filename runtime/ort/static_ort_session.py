"""A session on ONNX Runtime for graphs of target `tensorrt`: what TensorRT is to compute, without TensorRT."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from ..errors import ArtifactError
from ..session.session import Logits, TokenIds
from ..session.static_session import StaticSession
from .bound_graph import BoundGraph
from .kv_cache import SharedCache

PREFILL_CHUNK = 512
"""Most prompt tokens of a row in one run."""

REMEDY = "raise --max-length (at export, where the graph sets the limit)"


class StaticOrtSession(StaticSession):
    """A `Session` that runs a graph with a cache of fixed size, past and present in one buffer.

    The cache grows in steps all the same: its size is fixed within a run only.

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
        if self.facts.cache != "static":
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
        self._cache = SharedCache(self.facts, graph.binding, graph.memory, batch_size, self._max_length)
        self._step_ids = np.zeros((batch_size, 1), np.int32)
        self._written = np.zeros(batch_size, np.int32)
        self._last = np.zeros(batch_size, np.int32)
        self._logits: Logits = np.zeros((batch_size, 1, self.vocab_size), np.float32)
        self._step_is_bound = False

    def _run(self, tokens: TokenIds, written: TokenIds, last: TokenIds) -> Logits:
        """See `StaticSession._run`; where it fails, the session is as it was."""
        self._written[:] = written
        self._last[:] = last
        if tokens.shape[1] > 1:
            self._bind(np.ascontiguousarray(tokens, np.int32))
            self._step_is_bound = False
        else:
            self._step_ids[:] = tokens
            if not self._step_is_bound:
                self._bind(self._step_ids)
                # Input for another device is copied when it is bound, so that there it must be bound for each run.
                self._step_is_bound = self.device == "cpu"
        past = int(written.max())
        self._graph.run(self._cache, past, past + tokens.shape[1])
        return self._logits[:, 0]

    def _bind(self, tokens: np.ndarray[Any, np.dtype[np.int32]]) -> None:
        inputs = {"input_ids": tokens, "write_indices": self._written, "last_index": self._last}
        self._graph.bind(inputs, self._logits)
