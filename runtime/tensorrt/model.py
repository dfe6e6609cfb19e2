"""The session's model in TensorRT: the KV cache stays on the device, and a decode step launches one CUDA graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from time import perf_counter
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import ArtifactError, ContextLengthError, UsageError
from ..session.contract import cache_names
from ..session.model import RunArrays
from .cuda import Address, CudaError, Driver, GraphHandle
from .plan import Plan

WARM_UPS = 1
"""The number of plain runs of new shapes before they are recorded; TensorRT sets itself up in the first."""

TOKENS = np.dtype(np.int32)
"""The element type of all inputs except the KV cache."""

BFLOAT16 = np.dtype(np.uint16)
"""The type in which NumPy holds bfloat16, the upper half of a float32."""

Shape = tuple[int, ...]


class Context(Protocol):
    """An execution context of a plan: the part of TensorRT's `IExecutionContext` that is used."""

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        """Choose the optimization profile."""
        ...

    def set_input_shape(self, name: str, shape: Sequence[int]) -> bool:
        """Set the shape of an input, within the profile's range."""
        ...

    def set_tensor_address(self, name: str, memory: Address) -> bool:
        """Set the address of an input or output."""
        ...

    def execute_async_v3(self, stream_handle: int) -> bool:
        """Launch a run on a stream."""
        ...


class TensorRTModel:
    """A plan on its device, as a session's `Model`; made by `load_plan`.

    Args:
        plan: Description of the plan.
        driver: Memory and stream of the device.
        contexts: Execution contexts for prefill and for decode, with their profiles set.
        records_steps: Whether to record the decode step as a CUDA graph.
        reason: Function that returns TensorRT's last message about a failure.

    Attributes:
        facts: The sizes and types of the plan's inputs and outputs.
        device: `cuda`.
        max_length: Most cache slots of a row.
        chunk: Most tokens of a row in one run.
        remedy: Advice for a user who needs more cache slots.
        run_s: Seconds spent so far in runs, including their copies.

    Raises:
        MissingError: The device has not enough memory.
    """

    device = "cuda"
    remedy = "build the plan with a larger --max-length"

    def __init__(
        self,
        plan: Plan,
        driver: Driver,
        contexts: tuple[Context, Context],
        *,
        records_steps: bool = True,
        reason: Callable[[], str] = lambda: "no reason given",
    ) -> None:
        self.facts = plan.facts
        self.max_length = plan.cache.capacity
        self.chunk = plan.max_chunk
        self.run_s = 0.0
        self._plan = plan
        self._buffers = DeviceBuffers(driver, plan)
        prefill, decode = contexts
        self._prefill = Launcher(driver, prefill, self._buffers, reason, records=False)
        self._decode = Launcher(driver, decode, self._buffers, reason, records=records_steps)
        self._batch_size = 0
        self._last: RunArrays | None = None

    @property
    def kv_cache_bytes(self) -> int:
        """The bytes of the KV cache's buffers."""
        return self._buffers.cache_bytes

    def reserve(self, batch_size: int, max_length: int) -> None:
        """Reserve memory for a batch, as `Model.reserve` does.

        Raises:
            MissingError: The device has not enough memory.
            UsageError: The plan was built for fewer rows.
        """
        if batch_size > self._plan.max_batch:
            raise UsageError(
                f"{batch_size} rows exceed the {self._plan.max_batch} that {self._plan.path} was built for; "
                f"build it with --max-batch {batch_size}"
            )
        if self._buffers.reserve(batch_size):
            self._prefill.bind()
            self._decode.bind()
        if batch_size != self._batch_size:
            self._step = self._buffers.arrays(batch_size, 1)
            self._batch_size = batch_size

    def put(self, array: NDArray[Any]) -> Any:
        """The array itself; plans have no attention mask."""
        return array

    def arrays(self, size: int, first: int = 0) -> RunArrays:
        """The arrays for a chunk, as `Model.arrays` gives them."""
        return self._step if size == 1 else self._buffers.arrays(self._batch_size, size)

    def run(self, arrays: RunArrays) -> None:
        """Run a chunk, as `Model.run` does.

        Raises:
            ContextLengthError: A row would write past the end of the cache, which the device silently drops.
            ArtifactError: TensorRT refused the run.
            MissingError: The device failed.
        """
        if arrays.total > self.max_length:
            count = arrays.total - arrays.past
            raise ContextLengthError(f"{count} tokens do not fit after slot {arrays.past}; {self.remedy}")
        started = perf_counter()
        (self._decode if arrays is self._step else self._prefill).run(arrays)
        self.run_s += perf_counter() - started
        self._last = arrays

    def cache(self, slots: int) -> list[NDArray[Any]]:
        """A copy of the first `slots`: key and value of each layer, `[B, H_kv, slots, D]`; bfloat16 as float32."""
        return self._buffers.read_cache(self._batch_size, slots)

    def restore(self, cache: Sequence[NDArray[Any]], length: int) -> None:
        """Replace the first slots of the KV cache, as `Model.restore` does."""
        self._buffers.write_cache(cache, self._batch_size, length)

    def experts(self) -> list[NDArray[np.int64]]:
        """The experts that the last run chose, `[B, S, k]` int64 for each layer; empty for a dense model."""
        return [] if self._last is None or not self._plan.experts else self._buffers.read_experts(self._last)


class Launcher:
    """Runs the chunks of one profile; a shape that repeats is recorded as a CUDA graph.

    Args:
        driver: Memory and stream of the device.
        context: Execution context with its profile set.
        buffers: Buffers of the plan.
        reason: Function that returns TensorRT's last message about a failure.
        records: Whether to record repeating runs; False where the context does that by itself.
    """

    def __init__(
        self, driver: Driver, context: Context, buffers: DeviceBuffers, reason: Callable[[], str], *, records: bool
    ) -> None:
        self._driver = driver
        self._context = context
        self._buffers = buffers
        self._reason = reason
        self._records = records
        self._shape: tuple[int, ...] = (0, 0)
        self._runs = 0
        self._graph: GraphHandle | None = None

    def bind(self) -> None:
        """Set the addresses of all inputs and outputs, and drop the recording made with the addresses before."""
        self._forget()
        for name, address in self._buffers.addresses():
            self._require(self._context.set_tensor_address(name, address), f"set the address of {name}")

    def run(self, arrays: RunArrays) -> None:
        """Run a chunk, and wait for its logits.

        Raises:
            ArtifactError: TensorRT refused the run.
            MissingError: The device failed.
        """
        if arrays.inputs["input_ids"].shape != self._shape:
            self._reshape(arrays)
        if self._graph is None and self._records and self._runs >= WARM_UPS:
            self._graph = self._record(arrays)
        if self._graph is not None:
            self._driver.launch(self._graph)
        else:
            self._enqueue(arrays)
            self._runs += 1
        self._driver.synchronize()

    def _reshape(self, arrays: RunArrays) -> None:
        self._forget()
        for name, shape in self._buffers.shapes(arrays):
            self._require(self._context.set_input_shape(name, shape), f"run {name} of shape {list(shape)}")
        self._shape = arrays.inputs["input_ids"].shape

    def _enqueue(self, arrays: RunArrays) -> None:
        self._buffers.send(arrays)
        self._require(self._context.execute_async_v3(self._driver.stream), f"run a chunk of shape {list(self._shape)}")
        self._buffers.fetch(arrays)

    def _record(self, arrays: RunArrays) -> GraphHandle | None:
        """Record the step as a graph; None, without further attempts, where it cannot be recorded."""
        try:
            self._driver.begin_capture()
            try:
                self._enqueue(arrays)
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


class DeviceBuffers:
    """Buffers for the plan's largest run; addresses stay the same, because recorded runs contain them.

    Past and present of the KV cache share one address: the plan writes it in place.

    Args:
        driver: Memory and stream of the device.
        plan: Description of the plan, with the sizes.
    """

    def __init__(self, driver: Driver, plan: Plan) -> None:
        rows, tokens = plan.max_batch, plan.max_batch * plan.max_chunk
        self._driver = driver
        self._plan = plan
        self._stored = plan.facts.kv_dtype
        sizes = {"input_ids": tokens, "write_indices": rows, "last_index": rows}
        self._hosts = {name: driver.host_array((size,), TOKENS) for name, size in sizes.items()}
        self._inputs = {name: driver.allocate(host.nbytes) for name, host in self._hosts.items()}
        self._logits = driver.host_array((rows, 1, plan.vocab_size), np.float32)
        self._logits_address = driver.allocate(self._logits.nbytes)
        self._experts = [driver.allocate(tokens * each.per_token * each.dtype.itemsize) for each in plan.experts]
        self._cache: list[Address] = []
        self._rows = 0

    @property
    def cache_bytes(self) -> int:
        """The bytes of the KV cache."""
        return len(self._cache) * self._plan.cache.tensor_bytes(self._rows) if self._rows else 0

    def reserve(self, batch_size: int) -> bool:
        """Allocate a KV cache for more rows, if the current one has fewer.

        Returns:
            Whether addresses have changed.

        Raises:
            MissingError: The device has not enough memory.
        """
        if batch_size <= self._rows:
            return False
        self._rows = 0
        while self._cache:
            self._driver.free(self._cache.pop())
        for _ in range(2 * self._plan.cache.num_layers):
            # Zeros, because a masked slot is multiplied by 0, and NaN times 0 is NaN.
            self._cache.append(self._driver.allocate(self._plan.cache.tensor_bytes(batch_size)))
        self._rows = batch_size
        return True

    def arrays(self, batch_size: int, size: int) -> RunArrays:
        """The host arrays for a chunk `[B, S]`: views of the same memory at every call."""
        shapes = {"input_ids": (batch_size, size), "write_indices": (batch_size,), "last_index": (batch_size,)}
        inputs: dict[str, NDArray[Any]] = {
            name: self._hosts[name][: int(np.prod(shape))].reshape(shape) for name, shape in shapes.items()
        }
        return RunArrays(inputs, self._logits[:batch_size])

    def addresses(self) -> Iterator[tuple[str, Address]]:
        """The name and address of each input and output of the plan."""
        yield from self._inputs.items()
        yield "logits", self._logits_address
        for each, address in zip(self._plan.experts, self._experts, strict=True):
            yield each.name, address
        for prefix in ("past_key_values", "present"):
            yield from zip(cache_names(prefix, self._plan.cache.num_layers), self._cache, strict=True)

    def shapes(self, arrays: RunArrays) -> Iterator[tuple[str, Shape]]:
        """The name and shape of each input for a run."""
        for name, values in arrays.inputs.items():
            yield name, values.shape
        past = self._plan.cache.tensor_shape(len(arrays.logits))
        for name in cache_names("past_key_values", self._plan.cache.num_layers):
            yield name, past

    def send(self, arrays: RunArrays) -> None:
        """Copy the inputs of a run to the device."""
        for name, values in arrays.inputs.items():
            self._driver.to_device(self._inputs[name], values)

    def fetch(self, arrays: RunArrays) -> None:
        """Copy the logits of a run to the host."""
        self._driver.to_host(arrays.logits, self._logits_address)

    def read_experts(self, arrays: RunArrays) -> list[NDArray[np.int64]]:
        """The experts that a run chose, `[B, S, k]` int64 for each layer; empty for a dense model."""
        chunk = arrays.inputs["input_ids"].shape
        outputs = [np.empty((*chunk, each.per_token), each.dtype) for each in self._plan.experts]
        for output, address in zip(outputs, self._experts, strict=True):
            self._driver.to_host(output, address)
        self._driver.synchronize()
        return [output.astype(np.int64) for output in outputs]

    def read_cache(self, batch_size: int, slots: int) -> list[NDArray[np.floating[Any]]]:
        """A copy of the KV cache: key and value of each layer, `[B, H_kv, slots, D]`; bfloat16 as float32."""
        copies = [np.empty(self._plan.cache.tensor_shape(batch_size), self._stored) for _ in self._cache]
        for copy, address in zip(copies, self._cache, strict=True):
            self._driver.to_host(copy, address)
        self._driver.synchronize()
        copies = [copy[:, :, :slots] for copy in copies]
        if self._stored == BFLOAT16:
            return [(copy.astype(np.uint32) << 16).view(np.float32) for copy in copies]
        return copies

    def write_cache(self, cache: Sequence[NDArray[Any]], batch_size: int, slots: int) -> None:
        """Replace the first `slots` of the KV cache by what `read_cache` gave; the others become zeros."""
        if self._stored == BFLOAT16:
            cache = [(each.view(np.uint32) >> 16).astype(np.uint16) for each in cache]
        tensors = [np.zeros(self._plan.cache.tensor_shape(batch_size), self._stored) for _ in self._cache]
        for tensor, contents, address in zip(tensors, cache, self._cache, strict=True):
            tensor[:, :, :slots] = contents
            self._driver.to_device(address, tensor)
        self._driver.synchronize()
