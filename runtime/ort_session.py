"""A session on ONNX Runtime: everything stays bound, so that a decode step writes two integers and runs the graph."""

from __future__ import annotations

import os
from types import ModuleType
from typing import Any

import numpy as np

from .buffers import DeviceMemory, zeros
from .environment import CUDA, execution_providers, import_onnxruntime, require_cuda, require_fused_attention
from .errors import ArtifactError, ContextLengthError, MissingError, PromptError, UsageError
from .graph_facts import GraphFacts
from .kv_cache import GrowingCache, KVCache, SharedCache
from .session import Logits, TokenIds
from .session_options import SILENT, onnxruntime_errors, session_options, summary
from .slot_mask import SlotMask

TARGETS = ("portable", "ort")
"""Whose rows have the same slots."""

DEFAULT_MAX_LENGTH = 32768
"""Slots of a graph that does not tell its own limit."""

PREFILL_CHUNK = 512
"""Most prompt tokens of one run."""

PREFILL_LOGITS_BYTES = 64 << 20
"""Most memory for the logits of one run; a large batch or vocabulary makes shorter chunks."""

LOGITS_DTYPE = np.dtype(np.float32)


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
        _check_positive("max_length", max_length)
        _check_positive("prefill_chunk", prefill_chunk)
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

    def reset(self, batch_size: int = 1) -> None:
        """See `Session.reset`; buffers are kept where the batch size is."""
        _check_positive("batch_size", batch_size)
        self._length = 0
        if batch_size == self._batch_size:
            return
        self._logits: Logits = zeros((batch_size, 1, self.vocab_size), LOGITS_DTYPE)
        self._step_logits = self._logits[:, 0]
        # Views, because writing an integer into one is many times faster than into an array.
        self._step_ids = np.zeros(batch_size, np.int64).data
        self._step_positions = np.zeros(batch_size, np.int64).data
        self._step_is_bound = False
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
        self._check_room(input_ids.shape[1])
        if input_ids.shape[0] != self._batch_size:
            self.reset(input_ids.shape[0])
        size = input_ids.shape[1]
        last = np.where(mask.any(1), size - 1 - mask[:, ::-1].argmax(1), size - 1)
        row_bytes = self._batch_size * self.vocab_size * LOGITS_DTYPE.itemsize
        chunk = min(self._prefill_chunk, max(32, PREFILL_LOGITS_BYTES // row_bytes))
        for start in range(0, size, chunk):
            part = slice(start, start + chunk)
            logits = self._run_chunk(input_ids[:, part], mask[:, part])
            (rows,) = np.nonzero((start <= last) & (last < start + logits.shape[1]))
            self._step_logits[rows] = logits[rows, last[rows] - start]
        return self._step_logits

    def decode(self, tokens: TokenIds) -> Logits:
        """See `Session.decode`."""
        length, ids = self._length, tokens.tolist()
        if tokens.ndim != 1 or len(ids) != self._batch_size or tokens.dtype.kind not in "iu":
            raise PromptError(f"expected {self._batch_size} token ids, found {tokens.dtype} {tokens.shape}")
        self._check_ids(min(ids), max(ids))
        if length >= self._max_length:
            self._check_room(1)
        for row, token in enumerate(ids):
            self._step_ids[row] = token
        self._slots.step(length, self._step_positions)
        if not self._step_is_bound:
            self._bind_step()
        self._run(length + 1)
        return self._step_logits

    def _bind_step(self) -> None:
        ids, positions = (np.asarray(view)[:, None] for view in (self._step_ids, self._step_positions))
        self._bind_tokens(ids, positions, self._logits)
        # Input for another device is copied when it is bound, so that there it must be bound for each run.
        self._step_is_bound = self.device == "cpu"

    def _run_chunk(self, input_ids: TokenIds, mask: TokenIds) -> Logits:
        """Run a chunk; its logits are `[B, S, V]`."""
        positions = self._slots.prefill(self._length, mask)
        logits: Logits = zeros((*input_ids.shape, self.vocab_size), LOGITS_DTYPE)
        self._step_is_bound = False
        self._bind_tokens(np.ascontiguousarray(input_ids), positions, logits)
        self._run(self._length + input_ids.shape[1])
        return logits

    def _bind_tokens(self, input_ids: TokenIds, positions: TokenIds, logits: Logits) -> None:
        # Kept, because a binding need not keep the arrays behind its values alive.
        self._bound = [self._host.put(array) for array in (input_ids, positions, logits)]
        self._binding.bind_ortvalue_input("input_ids", self._bound[0])
        self._binding.bind_ortvalue_input("position_ids", self._bound[1])
        self._binding.bind_ortvalue_output("logits", self._bound[2])

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

    def _check_prompt(self, input_ids: TokenIds, attention_mask: TokenIds | None) -> tuple[TokenIds, TokenIds]:
        if input_ids.ndim != 2 or not input_ids.size or input_ids.dtype.kind not in "iu":
            raise PromptError(
                f"expected token ids [B, S] with at least one token, found {input_ids.dtype} {input_ids.shape}"
            )
        if self._length and input_ids.shape[0] != self._batch_size:
            raise PromptError(f"expected a chunk for {self._batch_size} rows, found {input_ids.shape[0]}; reset first")
        self._check_ids(int(input_ids.min()), int(input_ids.max()))
        if attention_mask is None:
            attention_mask = np.ones(input_ids.shape, np.int64)
        elif attention_mask.shape != input_ids.shape or not np.isin(attention_mask, (0, 1)).all():
            raise PromptError(f"expected an attention mask of 0 and 1 with shape {input_ids.shape}")
        return input_ids.astype(np.int64, copy=False), attention_mask.astype(np.int64, copy=False)

    def _check_ids(self, least: int, greatest: int) -> None:
        if least < 0 or greatest >= self.facts.vocab_size:
            raise PromptError(
                f"token id {least if least < 0 else greatest} is outside of the vocabulary of "
                f"{self.facts.vocab_size} tokens"
            )

    def _check_room(self, count: int) -> None:
        if self._length + count > self._max_length:
            raise ContextLengthError(
                f"{count} more tokens behind {self._length} cached positions exceed the maximum of {self._max_length}; "
                "shorten the prompt, or raise --max-length (at export, where the graph sets the limit)"
            )


def open_graph(
    path: str | os.PathLike[str], device: str = "auto", threads: int | None = None
) -> tuple[ModuleType, Any]:
    """Have ONNX Runtime load a graph.

    Args:
        path: The `.onnx` file.
        device: `auto`, `cpu` or `cuda`; `auto` takes CUDA where ONNX Runtime has it.
        threads: That one operator may use; None for the physical cores that this process may run on.

    Returns:
        ONNX Runtime, and its session.

    Raises:
        ArtifactError: The file is no graph that ONNX Runtime loads.
        MissingError: What the graph takes is missing: ONNX Runtime, its CUDA provider where `cuda` was asked for, or
            arithmetic in its precision.
        UsageError: An argument is out of range.
    """
    _check_positive("threads", threads)
    onnxruntime = import_onnxruntime()
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


def _check_positive(name: str, value: int | None) -> None:
    if value is not None and value < 1:
        raise UsageError(f"{name} must be at least 1, found {value}")
