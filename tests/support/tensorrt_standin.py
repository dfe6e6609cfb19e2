"""A stand-in for the CUDA driver and TensorRT, for tests on machines without either.

It is no emulation of speed or of arithmetic: it enforces the rules that the real ones have and are silent about
(work is done later and in order, addresses are the device's, shapes lie in the profile, past and present are one
buffer, nothing is written past the cache's end), and computes with ONNX Runtime on the graph that a plan would be built
from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from minimind_edge.export.parity.graph_file import with_outputs
from minimind_edge.runtime.tensorrt.plan import Plan

STREAM = 77
FIRST_ADDRESS = 0x7_0000_0000
ALIGNMENT = 256
DTYPES = {"tensor(int32)": "i4", "tensor(float)": "f4", "tensor(float16)": "f2"}


class RuleError(AssertionError):
    """The code under test did what a real device would answer with silence, garbage or a crash."""


def require(condition: bool, rule: str) -> None:
    if not condition:
        raise RuleError(rule)


class StandInDriver:
    """Memory at made-up addresses, and a queue of work that is done at `synchronize`."""

    stream = STREAM

    def __init__(self) -> None:
        self.memory: dict[int, np.ndarray] = {}
        self.queue: list[Callable[[], None]] = []
        self.recording: list[Callable[[], None]] | None = None
        self.launches = 0
        self.live_graphs: list[list[Callable[[], None]]] = []
        self._next = FIRST_ADDRESS
        self._host: list[np.ndarray] = []

    def allocate(self, size: int) -> int:
        require(self.recording is None, "memory was allocated while a graph was recorded")
        address = self._next
        self._next += -(-size // ALIGNMENT) * ALIGNMENT + ALIGNMENT
        self.memory[address] = np.zeros(size, np.uint8)
        return address

    def free(self, address: int) -> None:
        require(not self.queue, "memory was freed under work that may use it")
        del self.memory[address]

    def host_array(self, shape: Sequence[int], dtype: Any) -> np.ndarray:
        self._host.append(np.zeros(shape, dtype))
        return self._host[-1]

    def to_device(self, address: int, array: np.ndarray) -> None:
        self._check_copy(address, array)
        self._ask(lambda: self.view(address, array.nbytes).__setitem__(slice(None), array.reshape(-1).view(np.uint8)))

    def to_host(self, array: np.ndarray, address: int) -> None:
        self._check_copy(address, array)
        self._ask(lambda: array.reshape(-1).view(np.uint8).__setitem__(slice(None), self.view(address, array.nbytes)))

    def synchronize(self) -> None:
        require(self.recording is None, "synchronized while a graph was recorded")
        work, self.queue = self.queue, []
        for each in work:
            each()

    def begin_capture(self) -> None:
        require(self.recording is None, "two recordings at once")
        self.recording = []

    def end_capture(self) -> list[Callable[[], None]]:
        assert self.recording is not None
        graph, self.recording = self.recording, None
        self.live_graphs.append(graph)
        return graph

    def launch(self, graph: list[Callable[[], None]]) -> None:
        require(any(graph is each for each in self.live_graphs), "a graph was launched that had been let go")
        self.launches += 1
        self.queue += graph

    def discard(self, graph: list[Callable[[], None]]) -> None:
        self.live_graphs = [each for each in self.live_graphs if each is not graph]

    def view(self, address: int, size: int) -> np.ndarray:
        """Bytes of the device's memory, which must all be of one allocation."""
        start = max((each for each in self.memory if each <= address), default=-1)
        offset = address - start
        require(start >= 0 and offset < max(self.memory[start].size, 1), f"no memory at {address:#x}")
        require(offset + size <= self.memory[start].size, f"{size} bytes at {address:#x}, which has less")
        return self.memory[start][offset : offset + size]

    def _check_copy(self, address: int, array: np.ndarray) -> None:
        self.view(address, array.nbytes)
        require(array.flags.c_contiguous, "a copy of an array with gaps")
        host = any(np.shares_memory(array, each) for each in self._host)
        require(self.recording is None or host, "a recorded copy of memory that is not page-locked")

    def _ask(self, work: Callable[[], None]) -> None:
        (self.queue if self.recording is None else self.recording).append(work)


@dataclass
class StandInEngine:
    """What a plan would be, computed by ONNX Runtime from the plan's graph."""

    driver: StandInDriver
    plan: Plan
    graph: Path
    session: Any = field(init=False)

    def __post_init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        experts = [each.name for each in self.plan.experts]
        source = with_outputs(self.graph, experts) if experts else str(self.graph)
        self.session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        self.inputs = {each.name: each for each in self.session.get_inputs()}
        self.outputs = {each.name: each for each in self.session.get_outputs()}
        self.profiles = [each.shapes for each in self.plan.description.profiles]

    def context(self, profile: int) -> StandInContext:
        context = StandInContext(self)
        assert context.set_optimization_profile_async(profile, STREAM)
        self.driver.synchronize()
        return context


class StandInContext:
    """TensorRT's `IExecutionContext`, as far as it is used."""

    def __init__(self, engine: StandInEngine) -> None:
        self._engine = engine
        self._profile: Any = None
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._warm: tuple[Any, ...] | None = None
        self.fails = False
        self.runs = 0

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        require(stream_handle == STREAM, "another stream")
        self._profile = self._engine.profiles[profile_index]
        self._shapes.clear()
        return True

    def set_input_shape(self, name: str, shape: Sequence[int]) -> bool:
        require(self._profile is not None, "a shape before a profile")
        require(name in self._engine.inputs, f"no input {name}")
        least, _, most = self._profile[name]
        if not all(low <= size <= high for low, size, high in zip(least, shape, most, strict=True)):
            return False
        self._shapes[name] = tuple(shape)
        return True

    def set_tensor_address(self, name: str, memory: int) -> bool:
        require(memory % ALIGNMENT == 0, f"{name} is not aligned")
        require(name in self._engine.inputs or name in self._engine.outputs, f"no tensor {name}")
        self._addresses[name] = memory
        self._warm = None
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        engine, driver = self._engine, self._engine.driver
        require(stream_handle == STREAM, "another stream")
        require(set(self._shapes) == set(engine.inputs), "launched before every input had a shape")
        require(
            set(self._addresses) == {*engine.inputs, *engine.outputs}, "launched before every tensor had an address"
        )
        self._check_cache()
        state = (tuple(self._shapes.items()), tuple(self._addresses.items()))
        if driver.recording is not None:
            require(self._warm == state, "recorded before a plain run of these shapes")
        self._warm = state
        if self.fails:
            return False
        shapes, addresses = dict(self._shapes), dict(self._addresses)
        driver._ask(lambda: self._compute(shapes, addresses))
        return True

    def _check_cache(self) -> None:
        """Past and present are one buffer."""
        names = [name for name in self._addresses if name.startswith("past_key_values")]
        pasts = [self._addresses[name] for name in names]
        presents = [self._addresses[name.replace("past_key_values", "present")] for name in names]
        require(pasts == presents, "past and present are not aliased")

    def _compute(self, shapes: dict[str, tuple[int, ...]], addresses: dict[str, int]) -> None:
        self.runs += 1
        engine = self._engine
        feeds = {name: self._array(name, shape, addresses[name]) for name, shape in shapes.items()}
        capacity = engine.plan.cache.capacity
        end = int(feeds["write_indices"].max()) + shapes["input_ids"][1]
        require(end <= capacity, f"wrote {end} slots of {capacity}, which the kernel drops silently")
        names = list(engine.outputs)
        for name, result in zip(names, engine.session.run(names, feeds), strict=True):
            view = engine.driver.view(addresses[name], result.nbytes)
            view[:] = np.ascontiguousarray(result).reshape(-1).view(np.uint8)

    def _array(self, name: str, shape: tuple[int, ...], address: int) -> np.ndarray:
        dtype = np.dtype(DTYPES[self._engine.inputs[name].type])
        size = int(np.prod(shape)) * dtype.itemsize
        return self._engine.driver.view(address, size).view(dtype).reshape(shape).copy()
