"""What TensorRT may answer to a plan: a null object is never used, and each answer is one line."""

from __future__ import annotations

import subprocess
import sys
from enum import Enum
from types import SimpleNamespace

import pytest

from minimind_edge.runtime.errors import ArtifactError, MissingError
from minimind_edge.runtime.tensorrt.backend import Backend
from minimind_edge.runtime.tensorrt.loading import LoadedEngine


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


def test_building_from_an_artifact_takes_no_pytorch():
    """On a device there may be none; only a checkpoint needs it."""
    code = """
import sys
import minimind_edge.export.engine
loaded = sorted({"torch", "transformers", "tensorrt_rtx_bindings"} & sys.modules.keys())
assert not loaded, loaded
"""
    subprocess.run([sys.executable, "-c", code], check=True)
