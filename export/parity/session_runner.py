"""The graph as users run it: by the runtime's own session, which keeps its cache to itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from minimind_edge.runtime.errors import EdgeError

from .case import PADDING, Chunk
from .runner import Presents, RunError, StepOutput

if TYPE_CHECKING:
    from minimind_edge.runtime.session.session import Session


class SessionRunner:
    """A `Session` behind the runner's interface; position ids are the session's own affair.

    Args:
        session: Of the graph's file.
    """

    name = "session"
    last_token_only = True
    counts_positions = True

    def __init__(self, session: Session) -> None:
        self._session = session

    def reset(self, batch_size: int, slots: int) -> None:
        """Forget everything; the session finds room by itself."""
        self._session.reset(batch_size)

    def step(self, chunk: Chunk) -> StepOutput:
        """Decode where every row gets one token behind others, else prefill."""
        real = (chunk.layout != PADDING).astype("int64")
        try:
            if chunk.start and real.shape[1] == 1 and real.all():
                logits = self._session.decode(chunk.input_ids[:, 0].copy())
            else:
                logits = self._session.prefill(chunk.input_ids, None if real.all() else real)
        except EdgeError as error:
            raise RunError(str(error)) from error
        return StepOutput(logits)

    def presents(self) -> Presents | None:
        """A session does not show its cache."""
        return None


class RolledBackRunner(SessionRunner):
    """A session that has run each chunk once before with other tokens, and was rolled back."""

    name = "session, rolled back"

    def step(self, chunk: Chunk) -> StepOutput:
        """Run tokens that are not wanted, forget them, then run the chunk."""
        length = self._session.length
        others = (chunk.input_ids + 1) % self._session.vocab_size
        try:
            self._session.prefill(others)
            self._session.truncate(length)
        except EdgeError as error:
            raise RunError(str(error)) from error
        return super().step(chunk)
