"""A decoder on ONNX Runtime: everything stays bound, so that a decode step writes two integers and runs the graph."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ArtifactError
from ..interruption import register
from ..session.contract import LOGITS_START
from ..session.graph_facts import GraphFacts
from ..session.model import DEFAULT_MAX_LENGTH, RunArrays
from ..session.session import check_positive
from .environment import CUDA
from .kv_cache import DeviceMemory, GrowingCache, KVCache, SharedCache, zeros
from .loading import SILENT, onnxruntime_errors, summary

CHUNK = {"portable": 256, "ort": 256, "tensorrt": 512}
"""Most prompt tokens of one run by target: chunks of 64 to 256 stay in the cores' caches, and are faster than longer
ones; a graph for TensorRT is run here to see what it computes."""

PREFILL_LOGITS_BYTES = 64 << 20
"""Most memory for the logits of one run, where a graph gives those of all tokens: shortens the chunks of a large batch
or vocabulary."""

KEPT_TOKENS = 32
"""Chunks of at most so many tokens a row keep their arrays: steps and drafts come again and again."""

KEPT_BYTES = 16 << 20
"""Most memory for the logits that are kept; a large batch or vocabulary keeps those of fewer tokens."""

LOGITS_DTYPE = np.dtype(np.float32)
TOKEN_DTYPES = {"portable": np.int64, "ort": np.int64, "tensorrt": np.int32}


class OrtModel:
    """A graph of any target in ONNX Runtime, as a session's `Model`.

    Args:
        onnxruntime: The module.
        session: Its session for the graph.
        prefill_chunk: Most prompt tokens of one run; None for the target's own number.
        shares_buffer: Whether past and present share one buffer; None for what the target is made for. A graph of
            target `ort` does it either way.
        fresh: The value of cache slots that have not been written.
        experts: Names of the graph's outputs that show the chosen experts, one a layer.

    Attributes:
        facts: The sizes and types of the graph's inputs and outputs.
        device: `cpu` or `cuda`.
        max_length: Most cache slots.
        remedy: What a user can do where these are not enough.
        run_s: Seconds spent so far inside ONNX Runtime.

    Raises:
        ArtifactError: The graph is not what this runtime runs.
        UsageError: `prefill_chunk` is less than 1.
    """

    remedy = "raise --max-length (at export, where the graph sets the limit)"

    def __init__(
        self,
        onnxruntime: ModuleType,
        session: Any,
        *,
        prefill_chunk: int | None = None,
        shares_buffer: bool | None = None,
        fresh: float = 0.0,
        experts: Sequence[str] = (),
    ) -> None:
        check_positive("prefill_chunk", prefill_chunk)
        metadata = session.get_modelmeta().custom_metadata_map
        outputs = [each for each in session.get_outputs() if each.name not in experts]
        self.facts = GraphFacts.read(session.get_inputs(), outputs, metadata)
        self.device = "cuda" if CUDA in session.get_providers() else "cpu"
        self.max_length = self.facts.max_length or DEFAULT_MAX_LENGTH
        self.run_s = 0.0
        self._session = session
        self._errors = onnxruntime_errors(onnxruntime)
        self._binding = session.io_binding()
        self._run_options = onnxruntime.RunOptions()
        self._run_options.log_severity_level = SILENT
        self._memory = DeviceMemory(onnxruntime, self.device, fresh)
        self._host = DeviceMemory(onnxruntime, "cpu")
        self._prefill_chunk = prefill_chunk or CHUNK[self.facts.target]
        self._shares_buffer = self.facts.cache != "growing" if shares_buffer is None else shares_buffer
        self._expert_names = list(experts)
        # An input with a default is no input to ONNX Runtime, but an initializer that may be overridden.
        self._takes_start = any(node.name == LOGITS_START for node in session.get_overridable_initializers())
        self._reserved = (0, 0)
        register(self)

    @property
    def chunk(self) -> int:
        """See `Model.chunk`."""
        if self._takes_start or not self.facts.gives_all_logits:
            return self._prefill_chunk
        return min(self._prefill_chunk, max(32, PREFILL_LOGITS_BYTES // self._logits_bytes(1)))

    @property
    def kv_cache_bytes(self) -> int:
        """See `Model.kv_cache_bytes`; buffers grow by doubling as slots are needed."""
        return self._cache.nbytes

    def reserve(self, batch_size: int, max_length: int) -> None:
        """See `Model.reserve`."""
        if self._reserved == (batch_size, max_length):
            return
        row_bytes = batch_size * self.facts.vocab_size * LOGITS_DTYPE.itemsize
        kept_tokens = max(1, min(KEPT_TOKENS, KEPT_BYTES // row_bytes))
        self._kept_logits = zeros((kept_tokens * row_bytes // LOGITS_DTYPE.itemsize,), LOGITS_DTYPE)
        self._kept_tokens = kept_tokens
        self._kept: dict[int, RunArrays] = {}
        self._bound: RunArrays | None = None
        self._reserved = (batch_size, max_length)
        self._binding.clear_binding_inputs()  # lets go of the buffers of the batch before
        self._binding.clear_binding_outputs()
        self._bind_experts()
        cache = SharedCache if self._shares_buffer else GrowingCache
        self._cache: KVCache = cache(self.facts, self._binding, self._memory, batch_size, max_length)

    def put(self, array: NDArray[Any]) -> Any:
        """See `Model.put`: one of ONNX Runtime's values over the array."""
        return self._host.put(array)

    def arrays(self, size: int, first: int = 0) -> RunArrays:
        """See `Model.arrays`."""
        arrays = None if first else self._kept.get(size)
        if arrays is None:
            arrays = self._new_arrays(size, first)
            if size <= self._kept_tokens and not first:
                self._kept[size] = arrays
        return arrays

    def run(self, arrays: RunArrays) -> None:
        """See `Model.run`."""
        cache = self._cache
        try:
            if isinstance(cache, GrowingCache) or arrays.total > cache.capacity:
                cache.bind(arrays.past, arrays.total)
            self._bind(arrays)
            started = perf_counter()
            self._session.run_with_iobinding(self._binding, self._run_options)
            self.run_s += perf_counter() - started
        except self._errors as error:
            raise ArtifactError(
                f"the graph failed at positions {arrays.past} to {arrays.total - 1}: {summary(error)}"
            ) from error
        if isinstance(cache, GrowingCache):
            cache.commit(arrays.total)

    def interrupt(self, *, ends: bool) -> None:
        """See `Interruptible.interrupt`: ONNX Runtime looks at this between two operators, those of a loop included."""
        self._run_options.terminate = ends

    def cache(self, slots: int) -> list[NDArray[Any]]:
        """See `Model.cache`."""
        return self._cache.read(slots)

    def experts(self) -> list[NDArray[np.int64]]:
        """See `Model.experts`."""
        if not self._expert_names or self._bound is None:
            return []
        shape = self._bound.inputs["input_ids"].shape
        chosen = self._binding.get_outputs()[: len(self._expert_names)]
        return [each.numpy().reshape(*shape, -1).astype(np.int64) for each in chosen]

    def _bind(self, arrays: RunArrays) -> None:
        """Have the next run read these arrays and write their logits."""
        if arrays.mask is not None:
            self._binding.bind_ortvalue_input("attention_mask", arrays.mask)
        if self._expert_names:
            self._bind_experts()
        # Elsewhere than on the CPU inputs are copied when they are bound.
        if arrays is self._bound and self.device == "cpu":
            return
        for name in arrays.inputs:
            self._binding.bind_ortvalue_input(name, arrays.handles[name])
        if self._takes_start:
            self._binding.bind_ortvalue_input(LOGITS_START, arrays.handles[LOGITS_START])
        self._binding.bind_ortvalue_output("logits", arrays.handles["logits"])
        self._bound = arrays  # and kept, because a binding need not keep its values alive

    def _bind_experts(self) -> None:
        """Have a run allocate what shows the experts; bound first, these are the binding's first outputs."""
        for name in self._expert_names:
            self._binding.bind_output(name)

    def _new_arrays(self, size: int, first: int) -> RunArrays:
        batch_size, dtype = self._reserved[0], TOKEN_DTYPES[self.facts.target]
        per_row = () if self.facts.gives_all_logits else ("write_indices", "last_index")
        inputs: dict[str, NDArray[Any]] = {"input_ids": np.zeros((batch_size, size), dtype)}
        if self.facts.gives_all_logits:
            inputs["position_ids"] = np.zeros((batch_size, size), dtype)
        inputs.update((name, np.zeros(batch_size, dtype)) for name in per_row)
        count = 1 if per_row else size - first if self._takes_start else size
        arrays = RunArrays(inputs, self._logits(count))
        arrays.handles = {name: self._host.put(array) for name, array in inputs.items()}
        arrays.handles["logits"] = self._host.put(arrays.logits)
        if self._takes_start:
            arrays.handles[LOGITS_START] = self._host.put(np.array([arrays.first], np.int64))
        return arrays

    def _logits(self, count: int) -> NDArray[np.float32]:
        """Room for the logits of `count` tokens of each row; all that is small shares the same memory."""
        shape = (self._reserved[0], count, self.facts.vocab_size)
        if count > self._kept_tokens:
            return zeros(shape, LOGITS_DTYPE)
        return self._kept_logits[: shape[0] * count * shape[2]].reshape(shape)

    def _logits_bytes(self, tokens: int) -> int:
        return self._reserved[0] * tokens * self.facts.vocab_size * LOGITS_DTYPE.itemsize
