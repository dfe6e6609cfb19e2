"""The seconds that a session spends inside the model's own run: ONNX Runtime's, or TensorRT's with its copies."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..load import GraphSession
    from ..tensorrt.opening import PlanSession


class RunClock:
    """Stands between a session and what runs the model and times each run; all else that a step takes is Python.

    Args:
        session: the session to time, for good.

    Attributes:
        seconds: inside the model's run so far.
    """

    def __init__(self, session: GraphSession | PlanSession) -> None:
        self.seconds = 0.0
        self._run: Callable[..., Any]
        execution = getattr(session, "_execution", None)
        if execution is not None:
            self._run, execution.run = execution.run, self._timed
            return
        owner: Any = getattr(session, "_graph", session)
        self._run = owner._session.run_with_iobinding
        owner._session = self

    def run_with_iobinding(self, binding: Any, options: Any) -> None:
        """Run as ONNX Runtime's session does."""
        self._timed(binding, options)

    def _timed(self, *arguments: Any, **options: Any) -> Any:
        started = perf_counter()
        try:
            return self._run(*arguments, **options)
        finally:
            self.seconds += perf_counter() - started
