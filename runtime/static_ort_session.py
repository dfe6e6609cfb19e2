"""A session on ONNX Runtime for graphs of target `tensorrt`: what TensorRT is to compute, without TensorRT."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .buffers import DeviceMemory
from .environment import CUDA
from .errors import ArtifactError
from .graph_facts import GraphFacts
from .kv_cache import SharedCache
from .session import Logits, TokenIds
from .session_options import SILENT, onnxruntime_errors, summary
from .static_session import StaticSession

PREFILL_CHUNK = 512
"""Most prompt tokens of a row in one run."""

DEFAULT_MAX_LENGTH = 32768
"""Slots of a graph that does not tell its own limit."""

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
        ArtifactError: The graph is not what this runtime runs.
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
        self.facts = GraphFacts.read(
            session.get_inputs(), session.get_outputs(), session.get_modelmeta().custom_metadata_map
        )
        if self.facts.cache != "static":
            raise ArtifactError("the graph has the growing cache of older TensorRT, which is for engines only")
        self.device = "cuda" if CUDA in session.get_providers() else "cpu"
        self._session = session
        self._errors = onnxruntime_errors(onnxruntime)
        self._binding = session.io_binding()
        self._run_options = onnxruntime.RunOptions()
        self._run_options.log_severity_level = SILENT
        self._memory = DeviceMemory(onnxruntime, self.device)
        self._host = DeviceMemory(onnxruntime, "cpu")
        self._rows_reserved = 0
        self._limit = self.facts.max_length or DEFAULT_MAX_LENGTH
        super().__init__(
            vocab_size=self.facts.vocab_size,
            max_length=self._limit if max_length is None else min(self._limit, max_length),
            chunk=prefill_chunk,
            remedy=REMEDY,
        )

    def _reserve(self, batch_size: int) -> None:
        """See `StaticSession._reserve`; buffers are kept where the batch size is."""
        if batch_size == self._rows_reserved:
            return
        self._rows_reserved = batch_size
        self._binding.clear_binding_inputs()  # lets go of the buffers of the batch before
        self._binding.clear_binding_outputs()
        self._cache = SharedCache(self.facts, self._binding, self._memory, batch_size, self._max_length)
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
        first, past = int(written.min()), int(written.max())
        try:
            self._cache.bind(past, past + tokens.shape[1])
            self._session.run_with_iobinding(self._binding, self._run_options)
        except self._errors as error:
            raise ArtifactError(
                f"the graph failed at positions {first} to {past + tokens.shape[1] - 1}: {summary(error)}"
            ) from error
        return self._logits[:, 0]

    def _bind(self, tokens: NDArray[np.int32]) -> None:
        arrays: tuple[NDArray[Any], ...] = (tokens, self._written, self._last, self._logits)
        # Kept, because a binding need not keep the arrays behind its values alive.
        self._bound = [self._host.put(array) for array in arrays]
        for name, value in zip(("input_ids", "write_indices", "last_index"), self._bound, strict=False):
            self._binding.bind_ortvalue_input(name, value)
        self._binding.bind_ortvalue_output("logits", self._bound[-1])
