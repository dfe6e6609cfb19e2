"""A plan on its device: the memory it works in, and a launcher for each of its profiles."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from numpy.typing import NDArray

from ..errors import UsageError
from ..session.session import Logits
from .buffers import DeviceBuffers
from .interfaces import Context, Driver
from .launcher import Launcher
from .plan import Plan

Buffers = TypeVar("Buffers", bound=DeviceBuffers)


class Execution(Generic[Buffers]):
    """Runs chunks.

    Args:
        plan: What the plan is.
        driver: Of the device.
        contexts: One for prefill and one for decode, their profiles set.
        buffers: Of the plan.
        records_steps: Whether to record the decode step as a CUDA graph.
        reason: What TensorRT said last of what went wrong.

    Attributes:
        buffers: Of the plan.
    """

    def __init__(
        self,
        plan: Plan,
        driver: Driver,
        contexts: tuple[Context, Context],
        buffers: Buffers,
        *,
        records_steps: bool,
        reason: Callable[[], str],
    ) -> None:
        self.buffers = buffers
        self._plan = plan
        prefill, decode = contexts
        self._prefill = Launcher(driver, prefill, buffers, reason, records=False)
        self._decode = Launcher(driver, decode, buffers, reason, records=records_steps)

    def reserve(self, batch_size: int) -> None:
        """Get ready for so many rows.

        Raises:
            UsageError: The plan was built for fewer.
            MissingError: The device has no room.
        """
        if batch_size > self._plan.max_batch:
            raise UsageError(
                f"{batch_size} rows exceed the {self._plan.max_batch} that {self._plan.path} was built for; "
                f"build it with --max-batch {batch_size}"
            )
        if self.buffers.reserve(batch_size):
            self._prefill.bind()
            self._decode.bind()

    def run(self, inputs: Mapping[str, NDArray[Any]], *, moved: bool = False) -> Logits:
        """Run a chunk, and wait for its logits, `[B, V]`, which are valid until the next run.

        Args:
            inputs: By name; `input_ids` is `[B, S]`.
            moved: Whether addresses are others than in the run before of the same profile.

        Raises:
            ArtifactError: TensorRT refused.
            MissingError: The device failed.
        """
        self.buffers.fill(inputs)
        launcher = self._decode if self.buffers.chunk[1] == 1 else self._prefill
        if moved:
            launcher.bind()
        launcher.run()
        return self.buffers.logits()
