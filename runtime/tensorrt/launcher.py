"""One profile of a plan: shapes are set when they change, and a step that repeats is recorded as a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import ArtifactError
from .buffers import DeviceBuffers
from .cuda_library import CudaError
from .interfaces import Context, Driver, GraphHandle

WARM_UPS = 1
"""Plain runs of new shapes before they are recorded: TensorRT sets itself up for them in the first."""


class Launcher:
    """Runs chunks of one profile.

    Args:
        driver: Of the device.
        context: On which the profile is set.
        buffers: Of the plan.
        reason: What TensorRT says of a failure.
        records: Whether to record what repeats; off where the context does that by itself.
    """

    def __init__(
        self,
        driver: Driver,
        context: Context,
        buffers: DeviceBuffers,
        reason: Callable[[], str],
        *,
        records: bool,
    ) -> None:
        self._driver = driver
        self._context = context
        self._buffers = buffers
        self._reason = reason
        self._records = records
        self._shape = (0, 0)
        self._runs = 0
        self._graph: GraphHandle | None = None

    def bind(self) -> None:
        """Tell the context where everything lies; what was recorded with other addresses is void."""
        self._forget()
        for name, address in self._buffers.addresses():
            self._require(self._context.set_tensor_address(name, address), f"set the address of {name}")

    def run(self) -> None:
        """Run what the buffers hold on the host, and wait for the logits.

        Shapes are taken to be those of the run before where the chunk's are: a cache that grows is bound for each run.

        Raises:
            ArtifactError: TensorRT refused.
            MissingError: The device failed.
        """
        if self._buffers.chunk != self._shape:
            self._reshape()
        if self._graph is None and self._records and self._runs >= WARM_UPS:
            self._graph = self._record()
        if self._graph is not None:
            self._driver.launch(self._graph)
        else:
            self._enqueue()
            self._runs += 1
        self._driver.synchronize()

    def _reshape(self) -> None:
        self._forget()
        for name, shape in self._buffers.shapes():
            self._require(self._context.set_input_shape(name, shape), f"run {name} of shape {list(shape)}")
        self._shape = self._buffers.chunk

    def _enqueue(self) -> None:
        self._buffers.send()
        self._require(self._context.execute_async_v3(self._driver.stream), f"run a chunk of shape {list(self._shape)}")
        self._buffers.fetch()

    def _record(self) -> GraphHandle | None:
        """The step as a graph; None, and no more tries, where something in it cannot be recorded."""
        try:
            self._driver.begin_capture()
            try:
                self._enqueue()
            finally:
                graph = self._driver.end_capture()
        except (CudaError, ArtifactError):
            self._records = False
            return None
        return graph

    def _forget(self) -> None:
        if self._graph is not None:
            self._driver.discard(self._graph)
        self._graph = None
        self._shape = (0, 0)
        self._runs = 0

    def _require(self, done: bool, action: str) -> None:
        if not done:
            raise ArtifactError(f"TensorRT refused to {action}: {self._reason()}; build the plan again")
