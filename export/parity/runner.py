"""The runners of a comparison: sessions of the runtime, run chunk by chunk in each of the ways that users run them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from minimind_edge.runtime.errors import EdgeError
from minimind_edge.runtime.ort.environment import import_onnxruntime
from minimind_edge.runtime.ort.model import OrtModel
from minimind_edge.runtime.session.session import Session

from .case import PADDING, Chunk
from .graph_file import cache_scales, can_be_native, expert_names, open_native_session, open_session, with_outputs

if TYPE_CHECKING:
    from minimind_edge.runtime.session.contract import GraphFacts

SPARE_SLOTS = 8
"""The number of slots of a shared buffer beyond those that a case fills, which exposes a graph that takes the buffer's
length for that of the past."""

STALE = 8.0
"""The value of every slot of a fresh static cache: slots that a roll-back leaves in use by no token must not matter."""

WHOLE = 1 << 20
"""The chunk size of a graph's session, in tokens: larger than any case, so that a chunk is never split."""

Presents = Sequence[tuple[NDArray[np.floating], NDArray[np.floating]]]
"""(key, value) of each layer, each [B, H_kv, T, D] in the graph's own dtype."""


class RunError(Exception):
    """A candidate could not run a chunk; the comparison counts it as a difference."""


@dataclass(frozen=True)
class StepOutput:
    """The results of a candidate for one chunk.

    Args:
        logits: [B, S, V] float32; [B, V], each row's last real token, from a runner that gives only those.
        experts: The experts chosen in each layer, each [B, S, k]; None where the graph does not show them.
    """

    logits: NDArray[Any]
    experts: Sequence[NDArray[np.integer]] | None = None


class SessionRunner:
    """A session as a program drives it: prompts are prefilled, single tokens after others are decoded.

    Args:
        session: The session of the graph's file, or of a plan.
        name: The way the graph is run, for reports.

    Attributes:
        name: The way the graph is run, for reports.
        last_token_only: Whether `step` gives [B, V] instead of [B, S, V].
        counts_positions: Whether the session counts positions by itself, so that it cannot run a case that has its own.
    """

    last_token_only = True
    counts_positions = True

    def __init__(self, session: Session, name: str = "session") -> None:
        self.name = name
        self._session = session

    def reset(self, batch_size: int, slots: int) -> None:
        """Forget everything; the next case has `batch_size` rows of `slots` cache slots."""
        self._session.reset(batch_size)

    def step(self, chunk: Chunk) -> StepOutput:
        """Run a chunk after what is cached.

        Raises:
            RunError: The candidate refused or failed.
        """
        real = (chunk.layout != PADDING).astype("int64")
        try:
            if chunk.start and real.shape[1] == 1 and real.all():
                logits = self._session.decode(chunk.input_ids[:, 0].copy())
            else:
                logits = self._session.prefill(chunk.input_ids, None if real.all() else real)
        except EdgeError as error:
            raise RunError(str(error)) from error
        return StepOutput(logits, self._session.experts() or None)

    def presents(self) -> Presents | None:
        """The current cache, only the slots in use; None where this runner does not compare the cache."""
        return None


class RolledBackRunner(SessionRunner):
    """A session that has run each chunk once before with other tokens, and was rolled back."""

    def __init__(self, session: Session) -> None:
        super().__init__(session, "session, rolled back")

    def step(self, chunk: Chunk) -> StepOutput:
        """Run a chunk of other tokens, roll back, then run the chunk."""
        length = self._session.length
        others = (chunk.input_ids + 1) % self._session.vocab_size
        try:
            self._session.prefill(others)
            self._session.truncate(length)
        except EdgeError as error:
            raise RunError(str(error)) from error
        return super().step(chunk)


class GraphRunner(SessionRunner):
    """A graph or a plan with all of its results: all logits that it gives, its cache, its experts.

    Args:
        open_session: A function that makes a session with the given number of cache slots and a fresh cache.
        name: The way the graph is run, for reports.
        spare: The number of slots beyond those that a case fills.
        scales: The scale of each cached tensor's integers, [H_kv, 1, D], key before value; None where the cache is
            float.
    """

    def __init__(
        self,
        open_session: Callable[[int], Session],
        name: str,
        *,
        spare: int = 0,
        scales: Sequence[NDArray[np.float32]] | None = None,
    ) -> None:
        super().__init__(open_session(1), name)
        self.last_token_only = not self._session.gives_all_logits
        self.counts_positions = self._session.facts.has_row_lengths
        self._open_session = open_session
        self._spare = spare
        self._scales = scales

    def reset(self, batch_size: int, slots: int) -> None:
        """See `SessionRunner.reset`: a fresh session, with `spare` slots more than the case fills."""
        self._session = self._open_session(slots + self._spare)
        self._session.reset(batch_size)

    def step(self, chunk: Chunk) -> StepOutput:
        """See `SessionRunner.step`; positions are the case's, where the graph takes any."""
        if self.last_token_only:
            return super().step(chunk)
        real = (chunk.layout != PADDING).astype("int64")
        try:
            positions = None if self.counts_positions else chunk.position_ids
            logits = self._session.forward(chunk.input_ids, real, positions)
        except EdgeError as error:
            raise RunError(str(error)) from error
        return StepOutput(logits, self._session.experts() or None)

    def presents(self) -> Presents:
        """See `SessionRunner.presents`."""
        tensors = self._session.cache()
        if self._scales is not None:
            tensors = [tensor * scale for tensor, scale in zip(tensors, self._scales, strict=True)]
        return list(zip(tensors[::2], tensors[1::2], strict=True))


def runners_of(
    path: Path, facts: GraphFacts, *, has_experts: bool, native: bool = False
) -> list[Callable[[], SessionRunner]]:
    """All ways to run a graph on the CPU, the one that shows the experts first.

    Args:
        path: The `.onnx` file.
        facts: The graph's metadata and sizes.
        has_experts: Whether the graph is a mixture of experts.
        native: Whether to run it with native operators too, where this machine's sessions do.
    """
    from minimind_edge.runtime.load import load_session

    def session(native: bool = False) -> SessionRunner:
        return SessionRunner(load_session(path, device="cpu", native=native), _way("session", native=native))

    def rolled_back() -> SessionRunner:
        return RolledBackRunner(load_session(path, device="cpu", native=False))

    def shown(native: bool = False) -> SessionRunner:
        return graph_runner(path, facts, shows_experts=has_experts, native=native)

    def shared(native: bool = False) -> SessionRunner:
        return graph_runner(path, facts, shares_buffer=True, native=native)

    if facts.has_row_lengths:
        return [shown, session, rolled_back]
    if facts.target != "ort":
        return [shown, session]
    ways = [shown, shared, session]
    if native and can_be_native(path):
        return [*ways, *(functools.partial(way, native=True) for way in ways)]
    return [*ways]


def graph_runner(
    path: Path,
    facts: GraphFacts,
    *,
    shows_experts: bool = False,
    shares_buffer: bool = False,
    native: bool = False,
) -> GraphRunner:
    """The runner that shows all results of a graph.

    Args:
        path: The `.onnx` file.
        facts: The graph's metadata and sizes.
        shows_experts: Whether to show the experts that the graph chooses.
        shares_buffer: Whether past and present are one buffer, where the target leaves that open; else the past goes in
            by value and comes out longer.
        native: Whether to run it with native operators.

    Raises:
        ExportError: The graph does not show which experts it chooses, or does not run with native operators.
    """
    onnxruntime = import_onnxruntime()
    names = expert_names(facts.num_layers) if shows_experts else []
    if native:
        opened = open_native_session(path, names)
    elif names:
        opened = open_session(with_outputs(path, names), path.parent)
    else:
        opened = open_session(path)
    is_in_place = facts.has_row_lengths

    def fresh_session(slots: int) -> Session:
        model = OrtModel(
            onnxruntime,
            opened,
            prefill_chunk=WHOLE,
            shares_buffer=is_in_place or shares_buffer,
            fresh=STALE if is_in_place else 0.0,
            experts=names,
        )
        return Session(model, max_length=slots)

    name = "graph, in place" if is_in_place else "graph, one buffer" if shares_buffer else "graph"
    spare = SPARE_SLOTS if shares_buffer else 0
    return GraphRunner(fresh_session, _way(name, native=native), spare=spare, scales=cache_scales(path, facts))


def _way(name: str, *, native: bool) -> str:
    """The name of a way to run a graph, which tells whose operators run it."""
    return f"{name}, native operators" if native else name
