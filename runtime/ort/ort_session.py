"""A session on ONNX Runtime: everything stays bound, so that a decode step writes two integers and runs the graph."""

from __future__ import annotations

import os
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ArtifactError, MissingError, PromptError, UsageError
from ..session.graph_facts import GraphFacts
from ..session.session import Logits, TokenIds
from ..session.slot_mask import SlotMask
from ..session.token_checks import check_ids, check_positive, check_prompt, check_room
from .buffers import DeviceMemory
from .environment import CUDA, execution_providers, import_onnxruntime, require_cuda, require_fused_attention
from .kv_cache import GrowingCache, KVCache, SharedCache
from .run_arrays import LOGITS_DTYPE, LOGITS_START, BoundArrays, RunArrays
from .session_options import SILENT, onnxruntime_errors, session_options, summary

TARGETS = ("portable", "ort")
"""Whose rows have the same slots."""

DEFAULT_MAX_LENGTH = 32768
"""Slots of a graph that does not tell its own limit."""

PREFILL_CHUNK = 256
"""Most prompt tokens of one run: chunks of 64 to 256 stay in the cores' caches, and are faster than longer ones."""

PREFILL_LOGITS_BYTES = 64 << 20
"""Most memory for the logits of one run, where a graph gives those of all tokens: shortens the chunks of a large batch
or vocabulary."""

REMEDY = "raise --max-length (at export, where the graph sets the limit)"


class OrtSession:
    """A `Session` that runs a graph of target `portable` or `ort`; make one with `OrtSession.load`.

    Args:
        onnxruntime: The module.
        session: Its session for the graph.
        max_length: Most cache slots, None for the graph's own limit, which stands where it is less.
        prefill_chunk: Most prompt tokens of one run.

    Attributes:
        facts: What the graph says of itself.
        device: `cpu` or `cuda`.
        can_verify: See `Session.can_verify`.

    Raises:
        ArtifactError: The graph is not what this runtime runs.
        UsageError: A number is less than 1.
    """

    can_verify = True

    def __init__(
        self,
        onnxruntime: ModuleType,
        session: Any,
        *,
        max_length: int | None = None,
        prefill_chunk: int = PREFILL_CHUNK,
    ) -> None:
        check_positive("max_length", max_length)
        check_positive("prefill_chunk", prefill_chunk)
        self.facts = GraphFacts.read(
            session.get_inputs(), session.get_outputs(), session.get_modelmeta().custom_metadata_map
        )
        if self.facts.target not in TARGETS:
            raise ArtifactError(f"the graph is for target {self.facts.target}: a session of another kind runs it")
        self.device = "cuda" if CUDA in session.get_providers() else "cpu"
        limit = self.facts.max_length or DEFAULT_MAX_LENGTH
        self._max_length = limit if max_length is None else min(limit, max_length)
        self._prefill_chunk = prefill_chunk
        self._session = session
        self._errors = onnxruntime_errors(onnxruntime)
        self._binding = session.io_binding()
        self._run_options = onnxruntime.RunOptions()
        self._run_options.log_severity_level = SILENT
        # An input with a default is no input to ONNX Runtime, but an initializer that may be overridden.
        self._takes_start = any(node.name == LOGITS_START for node in session.get_overridable_initializers())
        self._memory = DeviceMemory(onnxruntime, self.device)
        self._host = DeviceMemory(onnxruntime, "cpu")
        self._batch_size = 0
        self.reset()

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        threads: int | None = None,
        device: str = "auto",
        max_length: int | None = None,
        prefill_chunk: int = PREFILL_CHUNK,
    ) -> OrtSession:
        """Load a graph.

        Args:
            path: The `.onnx` file.
            threads: That one operator may use; None for the physical cores that this process may run on.
            device: `auto`, `cpu` or `cuda`; `auto` takes CUDA where ONNX Runtime has it.
            max_length: Most cache slots, None for the graph's own limit, which stands where it is less.
            prefill_chunk: Most prompt tokens of one run.

        Raises:
            ArtifactError: The file is no graph that ONNX Runtime loads, or none that this runtime runs.
            MissingError: ONNX Runtime, or its CUDA provider where `cuda` was asked for, is missing.
            UsageError: An argument is out of range.
        """
        onnxruntime, session = open_graph(path, device, threads)
        return cls(onnxruntime, session, max_length=max_length, prefill_chunk=prefill_chunk)

    @property
    def batch_size(self) -> int:
        """See `Session.batch_size`."""
        return self._batch_size

    @property
    def length(self) -> int:
        """See `Session.length`."""
        return self._length

    @property
    def max_length(self) -> int:
        """See `Session.max_length`."""
        return self._max_length

    @property
    def vocab_size(self) -> int:
        """See `Session.vocab_size`."""
        return self.facts.vocab_size

    @property
    def kv_cache_bytes(self) -> int:
        """Bytes of the cache's buffers, which grow by doubling as slots are needed."""
        return self._cache.nbytes

    def reset(self, batch_size: int = 1) -> None:
        """See `Session.reset`; buffers are kept where the batch size is."""
        check_positive("batch_size", batch_size)
        self._length = 0
        if batch_size == self._batch_size:
            return
        arrays = BoundArrays(
            self._binding,
            self._host,
            batch_size,
            self.vocab_size,
            takes_start=self._takes_start,
            on_cpu=self.device == "cpu",
        )
        self._arrays = arrays
        self._step = arrays.take(1)
        # Views, because writing an integer into one is many times faster than into an array.
        self._step_ids, self._step_positions = self._step.ids[:, 0].data, self._step.positions[:, 0].data
        self._step_logits = self._step.logits[:, 0]
        self._slots = SlotMask(self._host.put, batch_size, self._max_length)
        self._binding.clear_binding_inputs()  # lets go of the buffers of the batch before
        self._binding.clear_binding_outputs()
        cache = SharedCache if self.facts.target == "ort" else GrowingCache
        self._cache: KVCache = cache(self.facts, self._binding, self._memory, batch_size, self._max_length)
        self._batch_size = batch_size

    def truncate(self, length: int) -> None:
        """See `Session.truncate`."""
        if not 0 <= length <= self._length:
            raise UsageError(f"cannot keep {length} positions of a session that holds {self._length}")
        self._length = length

    def prefill(self, input_ids: TokenIds, attention_mask: TokenIds | None = None) -> Logits:
        """See `Session.prefill`; a long prompt is run in chunks."""
        input_ids, mask = self._check_prompt(input_ids, attention_mask)
        if len(input_ids) != self._batch_size:
            self.reset(len(input_ids))
        size = input_ids.shape[1]
        last = np.where(mask.any(1), size - 1 - mask[:, ::-1].argmax(1), size - 1)
        result = np.empty((self._batch_size, self.vocab_size), LOGITS_DTYPE)
        for start in range(0, size, self._chunk()):
            part = slice(start, start + self._chunk())
            chunk, chunk_mask = input_ids[:, part], mask[:, part]
            ends_here = (start <= last) & (last < start + chunk.shape[1])
            first = int(last[ends_here].min()) - start if ends_here.any() else chunk.shape[1] - 1
            arrays = self._run_chunk(chunk, chunk_mask, first)
            result[ends_here] = arrays.logits[ends_here, last[ends_here] - start - arrays.start]
        return result

    def verify(self, tokens: TokenIds) -> Logits:
        """See `Session.verify`."""
        tokens, mask = self._check_prompt(tokens, None)
        if len(tokens) != self._batch_size:
            raise PromptError(f"expected tokens for {self._batch_size} rows, found {len(tokens)}")
        return self._run_chunk(tokens, mask).logits

    def decode(self, tokens: TokenIds) -> Logits:
        """See `Session.decode`."""
        length, ids = self._length, tokens.tolist()
        if tokens.ndim != 1 or len(ids) != self._batch_size or tokens.dtype.kind not in "iu":
            raise PromptError(f"expected {self._batch_size} token ids, found {tokens.dtype} {tokens.shape}")
        check_ids(min(ids), max(ids), self.facts.vocab_size)
        check_room(length, 1, self._max_length, REMEDY)
        for row, token in enumerate(ids):
            self._step_ids[row] = token
        self._slots.step(length, self._step_positions)
        self._arrays.bind(self._step)
        self._run(length + 1)
        return self._step_logits

    def _chunk(self) -> int:
        """Most tokens of a row in one run."""
        if self._takes_start:
            return self._prefill_chunk
        row_bytes = self._batch_size * self.vocab_size * LOGITS_DTYPE.itemsize
        return min(self._prefill_chunk, max(32, PREFILL_LOGITS_BYTES // row_bytes))

    def _run_chunk(self, input_ids: TokenIds, mask: NDArray[np.bool_], first: int = 0) -> RunArrays:
        """Run a chunk; the logits of its tokens from `first` on, or of more, are in the arrays."""
        arrays = self._arrays.take(input_ids.shape[1], first)
        arrays.ids[:] = input_ids
        arrays.positions[:] = self._slots.prefill(self._length, mask)
        self._arrays.bind(arrays)
        self._run(self._length + input_ids.shape[1])
        return arrays

    def _run(self, total: int) -> None:
        """Run what is bound; where that fails, the session is as it was."""
        try:
            self._cache.bind(self._length, total)
            self._binding.bind_ortvalue_input("attention_mask", self._slots.value(total))
            self._session.run_with_iobinding(self._binding, self._run_options)
        except self._errors as error:
            raise ArtifactError(
                f"the graph failed at positions {self._length} to {total - 1}: {summary(error)}"
            ) from error
        self._cache.commit(total)
        self._length = total

    def _check_prompt(self, input_ids: TokenIds, attention_mask: TokenIds | None) -> tuple[TokenIds, NDArray[np.bool_]]:
        checked = check_prompt(input_ids, attention_mask, self.vocab_size)
        if self._length and len(input_ids) != self._batch_size:
            raise PromptError(f"expected a chunk for {self._batch_size} rows, found {len(input_ids)}; reset first")
        check_room(self._length, input_ids.shape[1], self._max_length, REMEDY)
        return checked


def open_graph(
    path: str | os.PathLike[str], device: str = "auto", threads: int | None = None
) -> tuple[ModuleType, Any]:
    """Have ONNX Runtime load a graph.

    Args:
        path: The `.onnx` file.
        device: `auto`, `cpu`, `cuda`, `tensorrt` or `rtx`; `auto` takes CUDA where ONNX Runtime has it.
        threads: That one operator may use; None for the physical cores that this process may run on.

    Returns:
        ONNX Runtime, and its session.

    Raises:
        ArtifactError: The file is no graph that ONNX Runtime loads.
        MissingError: What the graph takes is missing: ONNX Runtime, its CUDA provider where `cuda` was asked for, or
            arithmetic in its precision.
        UsageError: An argument is out of range.
    """
    check_positive("threads", threads)
    onnxruntime = import_onnxruntime()
    if device in ("tensorrt", "rtx"):
        from .tensorrt_provider import open_by_tensorrt

        _, plain = open_graph(path, "cpu", threads)
        return onnxruntime, open_by_tensorrt(onnxruntime, plain, path, device, threads)
    providers = execution_providers(onnxruntime, device)
    options = session_options(onnxruntime, threads)
    try:
        session = onnxruntime.InferenceSession(os.fspath(path), options, providers=providers)
    except onnxruntime_errors(onnxruntime) as error:
        if "GroupQueryAttention" in str(error):
            require_fused_attention(onnxruntime)
        if "Could not find an implementation" in str(error):
            raise MissingError(
                f"this ONNX Runtime does not compute in the precision of {os.fspath(path)} (for bfloat16 build a plan "
                "with `minimind-export engine`, or export in fp16): " + summary(error)
            ) from error
        raise ArtifactError(f"cannot load {os.fspath(path)}: {summary(error)}") from error
    if device == "cuda":
        require_cuda(session.get_providers())
    return onnxruntime, session
