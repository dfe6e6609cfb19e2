"""The session's model in ONNX Runtime: arrays stay bound, so a decode step writes two integers and runs the graph."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ArtifactError
from ..interruption import register
from ..session.contract import ATTENTION_MASK, LOGITS, LOGITS_START, POSITION_IDS, ROWS_CACHE
from ..session.model import DEFAULT_MAX_LENGTH, RunArrays
from ..session.session import check_positive
from .environment import CUDA
from .kv_cache import DeviceMemory, GrowingCache, KVCache, SharedCache, zeros
from .loading import onnxruntime_errors, refusing_other_encodings, run_options, session_facts, summary

CHUNK = {"portable": 256, "ort": 256, "tensorrt": 512}
"""The most prompt tokens in one run, by target: chunks of 64 to 256 stay in the cores' caches and are faster than
longer ones; graphs for TensorRT run here only for comparisons."""

PREFILL_LOGITS_BYTES = 64 << 20
"""The most bytes for the logits of one run of a graph that gives those of all tokens; shortens the chunks of a large
batch or vocabulary."""

KEPT_TOKENS = 32
"""The most tokens of a row in a chunk whose arrays are kept for reuse by steps and drafts."""

KEPT_BYTES = 16 << 20
"""The most bytes for the logits of kept arrays; a large batch or vocabulary keeps them for fewer tokens."""

LOGITS_DTYPE = np.dtype(np.float32)
TOKEN_DTYPES = {"portable": np.int64, "ort": np.int64, "tensorrt": np.int32}


class OrtModel:
    """A graph of any target in ONNX Runtime, as a session's `Model`.

    Args:
        onnxruntime: The imported module.
        session: ONNX Runtime's session for the graph.
        prefill_chunk: Most prompt tokens in one run; None for the default of the target.
        shares_buffer: Whether past and present share one buffer; None for the target's own way. Graphs of target `ort`
            run both ways.
        fresh: Value of cache slots that have not been written.
        experts: Name of each layer's output that shows the chosen experts.

    Attributes:
        facts: The sizes and types of the graph's inputs and outputs.
        device: `cpu` or `cuda`.
        max_length: Most cache slots.
        remedy: Advice for a user who needs more cache slots.
        run_s: Seconds spent so far inside ONNX Runtime.

    Raises:
        ArtifactError: The graph violates the contract.
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
        self.facts = session_facts(session, without=experts)
        self.device = "cuda" if CUDA in session.get_providers() else "cpu"
        self.max_length = self.facts.max_length or DEFAULT_MAX_LENGTH
        self.run_s = 0.0
        self._session = session
        self._errors = onnxruntime_errors(onnxruntime)
        self._binding = session.io_binding()
        self._run_options = run_options(onnxruntime)
        self._memory = DeviceMemory(onnxruntime, self.device, fresh)
        self._host = DeviceMemory(onnxruntime, "cpu")
        self._prefill_chunk = prefill_chunk or CHUNK[self.facts.target]
        self._has_rows = self.facts.cache == ROWS_CACHE
        self._shares_buffer = self.facts.cache != "growing" if shares_buffer is None else shares_buffer
        self._expert_names = list(experts)
        # ONNX Runtime lists an input with a default as an overridable initializer, not as an input.
        with refusing_other_encodings():
            self._takes_start = any(node.name == LOGITS_START for node in session.get_overridable_initializers())
        self._reserved = (0, 0)
        register(self)

    @property
    def chunk(self) -> int:
        """The most tokens of a row in one run."""
        if self._takes_start or not self.facts.gives_all_logits:
            return self._prefill_chunk
        return min(self._prefill_chunk, max(32, PREFILL_LOGITS_BYTES // self._logits_bytes(1)))

    @property
    def kv_cache_bytes(self) -> int:
        """The bytes of the KV cache's buffers, which double when slots run out."""
        return self._cache.nbytes

    def reserve(self, batch_size: int, max_length: int) -> None:
        """Reserve memory for a batch, as `Model.reserve` does."""
        if self._reserved == (batch_size, max_length):
            return
        row_bytes = batch_size * self.facts.vocab_size * LOGITS_DTYPE.itemsize
        kept_tokens = max(1, min(KEPT_TOKENS, KEPT_BYTES // row_bytes))
        self._kept_logits = zeros((kept_tokens * row_bytes // LOGITS_DTYPE.itemsize,), LOGITS_DTYPE)
        self._kept_tokens = kept_tokens
        self._kept: dict[int, RunArrays] = {}
        self._bound: RunArrays | None = None
        self._last: RunArrays | None = None
        self._chosen: list[list[NDArray[Any]]] = []  # by the last run, where it was several: for each row
        self._reserved = (batch_size, max_length)
        self._binding.clear_binding_inputs()  # frees the buffers of the batch before
        self._binding.clear_binding_outputs()
        self._bind_experts()
        cache = SharedCache if self._shares_buffer else GrowingCache
        self._cache: KVCache = cache(self.facts, self._binding, self._memory, batch_size, max_length)

    def put(self, array: NDArray[Any]) -> Any:
        """ONNX Runtime's value for a host array."""
        return self._host.put(array)

    def arrays(self, size: int, first: int = 0) -> RunArrays:
        """The arrays for a chunk, as `Model.arrays` gives them."""
        arrays = None if first else self._kept.get(size)
        if arrays is None:
            arrays = self._new_arrays(size, first)
            if size <= self._kept_tokens and not first:
                self._kept[size] = arrays
        return arrays

    def run(self, arrays: RunArrays) -> None:
        """Run a chunk, as `Model.run` does."""
        cache = self._cache
        self._last, self._chosen = arrays, []
        try:
            if isinstance(cache, GrowingCache) or arrays.total > cache.capacity:
                cache.bind(arrays.past, arrays.total)
            if self._has_rows and arrays.past and min(arrays.inputs["input_ids"].shape) > 1:
                self._run_rows(arrays)
            else:
                self._bind(arrays)
                self._run_bound()
        except self._errors as error:
            raise ArtifactError(
                f"the graph failed at positions {arrays.past} to {arrays.total - 1}: {summary(error)}"
            ) from error
        if isinstance(cache, GrowingCache):
            cache.commit(arrays.total)

    def interrupt(self, *, ends: bool) -> None:
        """Stop the current run after its current operator and refuse later runs, or allow runs again."""
        self._run_options.terminate = ends

    def cache(self, slots: int) -> list[NDArray[Any]]:
        """A copy of the first `slots` of the KV cache: key and value of each layer, `[B, H_kv, slots, D]`."""
        return self._cache.read(slots)

    def restore(self, cache: Sequence[NDArray[Any]], length: int) -> None:
        """Replace the first slots of the KV cache, as `Model.restore` does."""
        self._cache.write(cache, length)

    def experts(self) -> list[NDArray[np.int64]]:
        """The experts that the last run chose, `[B, S, k]` int64 for each layer."""
        if not self._expert_names or self._last is None:
            return []
        shape = self._last.inputs["input_ids"].shape
        chosen = self._chosen or [self._chosen_experts()]
        return [np.concatenate(parts).reshape(*shape, -1).astype(np.int64) for parts in zip(*chosen, strict=True)]

    def _run_bound(self) -> None:
        started = perf_counter()
        self._session.run_with_iobinding(self._binding, self._run_options)
        self.run_s += perf_counter() - started

    def _run_rows(self, arrays: RunArrays) -> None:
        """Run a chunk row by row: such a graph takes several tokens after a past only in a batch of one row."""
        cache = self._cache
        assert isinstance(cache, SharedCache)  # as for every graph whose rows have lengths of their own
        ones = np.ones((1, arrays.total), np.int64)
        try:
            for row, last in enumerate(arrays.inputs[POSITION_IDS][:, -1].tolist()):
                one = {name: array[row : row + 1] for name, array in arrays.inputs.items()}
                one[ATTENTION_MASK] = ones[:, : last + 1]
                if self._takes_start:
                    one[LOGITS_START] = np.array([arrays.first], np.int64)
                cache.bind_row(row)
                self._bind_experts()
                for name, array in one.items():
                    self._binding.bind_ortvalue_input(name, self._host.put(array))
                self._binding.bind_ortvalue_output(LOGITS, self._host.put(arrays.logits[row : row + 1]))
                self._run_bound()
                self._chosen.append(self._chosen_experts())
        finally:
            cache.bind_rows()
            self._bound = None

    def _chosen_experts(self) -> list[NDArray[Any]]:
        """The outputs of the last run that show the experts."""
        return [each.numpy() for each in self._binding.get_outputs()[: len(self._expert_names)]]

    def _bind(self, arrays: RunArrays) -> None:
        """Bind the inputs and the logits of these arrays for the next run."""
        if arrays.mask is not None:
            self._binding.bind_ortvalue_input("attention_mask", arrays.mask)
        if self._expert_names:
            self._bind_experts()
        # On other devices than the CPU, inputs are copied when they are bound.
        if arrays is self._bound and self.device == "cpu":
            return
        for name in arrays.inputs:
            self._binding.bind_ortvalue_input(name, arrays.handles[name])
        if self._takes_start:
            self._binding.bind_ortvalue_input(LOGITS_START, arrays.handles[LOGITS_START])
        self._binding.bind_ortvalue_output("logits", arrays.handles["logits"])
        self._bound = arrays  # kept, because a binding may not keep its values alive

    def _bind_experts(self) -> None:
        """Bind the outputs that show the experts, which runs allocate; bound first, they are the first outputs."""
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
        """An array for the logits of `count` tokens of each row; small ones share the same memory."""
        shape = (self._reserved[0], count, self.facts.vocab_size)
        if count > self._kept_tokens:
            return zeros(shape, LOGITS_DTYPE)
        return self._kept_logits[: shape[0] * count * shape[2]].reshape(shape)

    def _logits_bytes(self, tokens: int) -> int:
        return self._reserved[0] * tokens * self.facts.vocab_size * LOGITS_DTYPE.itemsize
