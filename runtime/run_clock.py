"""The seconds that a session spends inside ONNX Runtime's own run."""

from __future__ import annotations

from time import perf_counter
from typing import Any

from .ort_session import OrtSession
from .static_ort_session import StaticOrtSession


class RunClock:
    """Stands between a session and ONNX Runtime and times each run; all else that a step takes is Python.

    Args:
        session: the session to time, for good.

    Attributes:
        seconds: inside ONNX Runtime so far.
    """

    def __init__(self, session: OrtSession | StaticOrtSession) -> None:
        self.seconds = 0.0
        self._run = session._session.run_with_iobinding
        session._session = self

    def run_with_iobinding(self, binding: Any, options: Any) -> None:
        """Run as ONNX Runtime's session does."""
        started = perf_counter()
        try:
            self._run(binding, options)
        finally:
            self.seconds += perf_counter() - started
