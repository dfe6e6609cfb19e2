"""What a plan needs against what is here, without either: each miss is one line and exit 4."""

from __future__ import annotations

import ctypes

import pytest

from minimind_edge.runtime.errors import MissingError
from minimind_edge.runtime.tensorrt import backend as backend_module
from minimind_edge.runtime.tensorrt import cuda, loading
from minimind_edge.runtime.tensorrt.cuda import CudaDevice, CudaLibrary, find_device
from minimind_edge.runtime.tensorrt.loading import load_plan
from minimind_edge.runtime.tensorrt.plan import ComputeCapability

HAS_DRIVER = True
try:
    ctypes.CDLL(cuda.LIBRARY)
except OSError:
    HAS_DRIVER = False


def device(capability, name="NVIDIA Test"):
    return CudaDevice(0, name, ComputeCapability.parse(capability), 8 << 30, "13.0")


def message(call, *arguments):
    with pytest.raises(MissingError) as caught:
        call(*arguments)
    assert caught.value.exit_code == 4
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.skipif(HAS_DRIVER, reason="there is an NVIDIA driver here")
def test_no_driver(plan):
    text = message(loading.require_device, plan())
    assert "needs TensorRT-RTX 1.7.1.116 and a GPU of compute capability 8.6, 12.0" in text
    assert "no NVIDIA driver here (libcuda.so.1 does not load)" in text


@pytest.mark.skipif(HAS_DRIVER, reason="there is an NVIDIA driver here")
def test_tensorrt_is_not_touched_without_a_driver(plan, description, monkeypatch):
    """Its runtime object is null then, and crashes whoever uses it."""
    import json

    made = plan()
    made.path.with_name("model.plan.json").write_text(json.dumps(description()))
    monkeypatch.setattr(loading, "load_backend", lambda name: pytest.fail("TensorRT was loaded"))
    message(load_plan, made.path)


def test_a_gpu_that_the_plan_runs_on(plan):
    loading.check_device(plan(), device("8.6"))
    loading.check_device(plan(), device("12.1"))


def test_a_gpu_that_the_plan_was_not_built_for(plan):
    text = message(loading.check_device, plan(), device("8.9", "NVIDIA RTX 4090"))
    assert "here is NVIDIA RTX 4090 with compute capability 8.9" in text
    assert "--compute-capability 8.9" in text


@pytest.mark.parametrize(("capability", "gpu"), [("8.7", "Jetson Orin"), ("9.0", "H100"), ("10.0", "B200")])
def test_a_gpu_that_tensorrt_rtx_never_runs_on(plan, capability, gpu):
    text = message(loading.check_device, plan(), device(capability))
    assert gpu in text
    assert "--backend tensorrt" in text


def test_a_plan_of_full_tensorrt_on_another_kind_of_gpu(plan):
    made = plan(backend="tensorrt", backend_version="10.13.0.35", compute_capabilities=["8.7"])
    loading.check_device(made, device("8.7"))
    text = message(loading.check_device, made, device("8.6"))
    assert "run on the kind of GPU that built them" in text
    assert "--backend tensorrt" in text


def test_versions(plan):
    loading.check_version(plan(), "1.7.1.200")
    text = message(loading.check_version, plan(), "1.8.0.3")
    assert "needs TensorRT-RTX 1.7.1.116" in text
    assert "here is TensorRT-RTX 1.8.0.3" in text
    assert "minimind-export engine" in text


def test_bindings_that_are_not_installed(plan, monkeypatch):
    monkeypatch.setitem(backend_module.MODULES, "rtx", ("no_such_bindings",))
    monkeypatch.setattr(backend_module, "rtx_libraries", list)
    text = message(loading.require_backend, plan())
    assert "TensorRT-RTX cannot be used: it is not installed" in text
    assert "pip install" in text


class FakeCuda(CudaLibrary):
    """A driver that answers from a table: name of the function to a CUresult."""

    def __init__(self, devices=1, codes=()):
        self._devices = devices
        self._codes = dict(codes)
        self._library = self

    def call(self, name, *arguments):
        if self._codes.get(name):
            raise cuda.CudaError(f"{name} failed", self._codes[name])
        if name == "cuDeviceGetCount":
            arguments[0]._obj.value = self._devices
        elif name == "cuDeviceGetName":
            arguments[0].value = b"NVIDIA GeForce RTX 4090"
        elif name == "cuDeviceTotalMem_v2":
            arguments[0]._obj.value = 24 << 30
        elif name == "cuDriverGetVersion":
            arguments[0]._obj.value = 12090
        elif name == "cuDeviceGetAttribute":
            arguments[0]._obj.value = {75: 8, 76: 9}[arguments[1].value]


def test_what_the_driver_says_of_a_gpu():
    found = find_device(FakeCuda())
    assert found == CudaDevice(0, "NVIDIA GeForce RTX 4090", ComputeCapability(8, 9), 24 << 30, "12.9")


def test_no_gpu():
    assert "finds no GPU" in message(find_device, FakeCuda(devices=0))
    assert "finds no GPU" in message(find_device, FakeCuda(codes={"cuDeviceGetCount": cuda.NO_DEVICE}))
    assert "there is no GPU 3" in message(find_device, FakeCuda(), 3)


def test_a_driver_that_fails():
    assert "cuDeviceGetCount failed" in message(find_device, FakeCuda(codes={"cuDeviceGetCount": 999}))
