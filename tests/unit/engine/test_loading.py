"""What TensorRT may answer to a plan: a null object is never used, and each answer is one line."""

from __future__ import annotations

import gc
import subprocess
import sys
from enum import Enum
from types import SimpleNamespace

import pytest

from minimind_edge.runtime.errors import ArtifactError, MissingError
from minimind_edge.runtime.tensorrt.backend import Backend
from minimind_edge.runtime.tensorrt.cuda import CudaDevice
from minimind_edge.runtime.tensorrt.loading import LoadedEngine
from minimind_edge.runtime.tensorrt.plan import ComputeCapability


class Logger:
    """TensorRT's `ILogger`."""


class Strategy(Enum):
    """TensorRT's `ExecutionContextAllocationStrategy`."""

    ON_PROFILE_CHANGE = 1


class FakeEngine:
    """TensorRT's `ICudaEngine`."""

    def __init__(self, names, profiles=2, room=True):
        self.names = names
        self.num_io_tensors = len(names)
        self.num_optimization_profiles = profiles
        self.room = room
        self.asked = []

    def get_tensor_name(self, index):
        return self.names[index]

    def create_execution_context(self, strategy):
        if not self.room:
            return None
        return SimpleNamespace(set_optimization_profile_async=lambda *arguments: not self.asked.append(arguments))


def backend(engine, *, runtime=True):
    found = SimpleNamespace(deserialize_cuda_engine=lambda data: engine) if runtime else None
    module = SimpleNamespace(
        __version__="10.13.0.35",
        ILogger=Logger,
        Runtime=lambda logger: found,
        ExecutionContextAllocationStrategy=Strategy,
    )
    return Backend("tensorrt", module)


@pytest.fixture
def full(plan):
    return plan(backend="tensorrt", backend_version="10.13.0.35", compute_capabilities=["8.7"])


def names(plan):
    return [each["name"] for each in plan.content["tensors"]]


def test_a_runtime_that_is_null(full):
    with pytest.raises(MissingError, match=r"TensorRT 10\.13\.0\.35 does not start"):
        LoadedEngine(backend(None, runtime=False), full, b"")


def test_a_plan_that_tensorrt_does_not_take(full):
    with pytest.raises(ArtifactError, match=r"does not take .*model\.plan.*minimind-export engine"):
        LoadedEngine(backend(None), full, b"")


def test_a_plan_with_another_interface(full):
    for engine in (FakeEngine(names(full)[1:]), FakeEngine(names(full), profiles=1)):
        with pytest.raises(ArtifactError, match="other inputs, outputs or profiles"):
            LoadedEngine(backend(engine), full, b"")


def test_a_context_for_each_profile(full):
    engine = FakeEngine(names(full))
    loaded = LoadedEngine(backend(engine), full, b"")
    assert not loaded.replays_by_itself
    waited = []
    loaded.contexts(SimpleNamespace(stream=5, synchronize=lambda: waited.append(len(engine.asked))))
    assert engine.asked == [(0, 5), (1, 5)]
    assert waited == [2]


def test_no_room_for_a_context(full):
    loaded = LoadedEngine(backend(FakeEngine(names(full), room=False)), full, b"")
    with pytest.raises(MissingError, match="no room to run"):
        loaded.contexts(SimpleNamespace(stream=5, synchronize=lambda: None))


class RuntimeCache:
    """TensorRT-RTX's `IRuntimeCache`: takes what one like it gave."""

    def __init__(self):
        self.content = b""

    def deserialize(self, blob):
        fits = blob.startswith(b"kernels")
        self.content = bytes(blob) if fits else self.content
        return fits

    def serialize(self):
        return self.content


class RuntimeConfig:
    """TensorRT-RTX's `IRuntimeConfig`."""

    def __init__(self):
        self.cache = None
        self.cuda_graph_strategy = self.dynamic_shapes_kernel_specialization_strategy = "default"

    def set_execution_context_allocation_strategy(self, strategy):
        self.strategy = strategy

    def create_runtime_cache(self):
        return RuntimeCache()

    def set_runtime_cache(self, cache):
        self.cache = cache
        return True


class RtxEngine(FakeEngine):
    """A plan of TensorRT-RTX; to make a context compiles kernels into the cache."""

    def create_runtime_config(self):
        return RuntimeConfig()

    def create_execution_context(self, config):
        self.config = config
        if config.cache is not None:
            config.cache.content = b"kernels of both" if config.cache.content else b"kernels"
        return super().create_execution_context(config)


@pytest.fixture
def rtx(plan, monkeypatch, tmp_path):
    """Load a plan of TensorRT-RTX and make its contexts; gives what was loaded and the engine."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    device = CudaDevice(0, "NVIDIA Test", ComputeCapability(8, 6), 8 << 30, "13.0")

    def load(capability=device):
        made = plan()
        engine = RtxEngine(names(made))
        found = backend(engine)
        found.module.CudaGraphStrategy = SimpleNamespace(WHOLE_GRAPH_CAPTURE="whole", DISABLED="off")
        found.module.DynamicShapesKernelSpecializationStrategy = SimpleNamespace(NONE="none")
        loaded = LoadedEngine(Backend("rtx", found.module), made, b"", capability)
        loaded.contexts(SimpleNamespace(stream=5, synchronize=lambda: None))
        return loaded, engine

    return load


def kernel_files(tmp_path):
    return sorted((tmp_path / "cache" / "minimind-edge" / "kernels").glob("*"))


def test_compiled_kernels_are_kept_for_the_next_run(rtx, tmp_path):
    rtx()
    (file,) = kernel_files(tmp_path)
    assert file.read_bytes() == b"kernels of both"
    assert file.name.endswith("-8.6.cache")
    loaded, engine = rtx()
    assert engine.config.cache.content == b"kernels of both"
    engine.config.cache.content = b"kernels of later shapes"
    del loaded
    engine.config = None
    gc.collect()
    assert file.read_bytes() == b"kernels of later shapes", "kept when the plan is let go"
    assert kernel_files(tmp_path) == [file], "no half-written file"


def test_a_file_of_kernels_that_does_not_fit_is_passed_over(rtx, tmp_path):
    rtx()
    (file,) = kernel_files(tmp_path)
    file.write_bytes(b"of another driver")
    rtx()
    assert file.read_bytes() == b"kernels of both"


def test_kernels_that_cannot_be_kept_are_no_error(rtx, monkeypatch, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder would be")
    rtx()
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setattr("pathlib.Path.home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    _, engine = rtx()
    assert engine.config.cache is None


def test_steps_are_recorded_whole(rtx):
    _, engine = rtx()
    config = engine.config
    assert (config.cuda_graph_strategy, config.dynamic_shapes_kernel_specialization_strategy) == ("whole", "default")


def test_building_from_an_artifact_takes_no_pytorch():
    """On a device there may be none; only a checkpoint needs it."""
    code = """
import sys
import minimind_edge.export.plan
loaded = sorted({"torch", "transformers", "tensorrt_rtx_bindings"} & sys.modules.keys())
assert not loaded, loaded
"""
    subprocess.run([sys.executable, "-c", code], check=True)
