"""Graphs by TensorRT's providers in ONNX Runtime: what is asked of them, and what is missing where they are not."""

from __future__ import annotations

import ctypes
from importlib.util import find_spec
from types import SimpleNamespace

import onnxruntime
import pytest
from graph_rows import make_model

from minimind_edge.export.graph import build_graph, save_graph
from minimind_edge.runtime.errors import MissingError, UsageError
from minimind_edge.runtime.load import load_session
from minimind_edge.runtime.ort import tensorrt_provider
from minimind_edge.runtime.ort.tensorrt_provider import PROVIDERS, open_by_tensorrt, profile_options
from minimind_edge.runtime.session.contract import GraphFacts
from minimind_edge.runtime.tensorrt.backend import load_backend, rtx_libraries
from minimind_edge.runtime.tensorrt.cuda import LIBRARY

TENSORRT, RTX = PROVIDERS.values()
HAS_DRIVER = True
try:
    ctypes.CDLL(LIBRARY)
except OSError:
    HAS_DRIVER = False


@pytest.fixture(scope="module")
def graphs(tmp_path_factory):
    """A tiny model for each target."""
    folder = tmp_path_factory.mktemp("graphs")
    for target in ("portable", "ort", "tensorrt"):
        save_graph(build_graph(make_model("gqa"), target, "fp32", 100), folder / f"{target}.onnx")
    return {target: folder / f"{target}.onnx" for target in ("portable", "ort", "tensorrt")}


@pytest.fixture
def facts(graphs):
    session = onnxruntime.InferenceSession(graphs["portable"], providers=["CPUExecutionProvider"])
    return GraphFacts.read(session.get_inputs(), session.get_outputs(), session.get_modelmeta().custom_metadata_map)


def parsed(text):
    """What a provider reads: shapes by names."""
    return {name: tuple(map(int, shape.split("x"))) for name, shape in (each.split(":") for each in text.split(","))}


def test_an_engine_is_for_every_length(facts):
    options = profile_options(facts, "rtx")
    assert list(options) == ["nv_profile_min_shapes", "nv_profile_opt_shapes", "nv_profile_max_shapes"]
    least, typical, most = map(parsed, options.values())
    assert least["input_ids"] == least["attention_mask"] == (1, 1)
    assert least["past_key_values.1.value"] == (1, 2, 0, 16)
    assert (typical["input_ids"], typical["attention_mask"]) == ((1, 1), (1, 51))
    assert (most["position_ids"], most["attention_mask"]) == ((8, 100), (8, 100))
    assert most["past_key_values.0.key"] == (8, 2, 99, 16)
    assert set(least) == set(typical) == set(most)
    assert next(iter(profile_options(facts, "tensorrt"))) == "trt_profile_min_shapes"


@pytest.mark.skipif(
    not rtx_libraries() or not find_spec("tensorrt_rtx_bindings"), reason="TensorRT-RTX's wheels are not installed"
)
def test_tensorrt_takes_the_graph_with_these_shapes(facts, graphs):
    from minimind_edge.export.plan.builder import BuildOptions, run_builder
    from minimind_edge.export.plan.profiles import Profile
    from minimind_edge.runtime.tensorrt.plan import ComputeCapability

    least, typical, most = map(parsed, profile_options(facts, "rtx").values())
    profile = Profile("all", {name: (least[name], typical[name], most[name]) for name in least})
    options = BuildOptions([profile], [ComputeCapability(8, 6)])
    path = graphs["portable"]
    built = run_builder(load_backend("rtx"), path.read_bytes(), path, options, lambda stage, done: None)
    assert built.data.startswith(b"vtrt")


@pytest.mark.parametrize("device", PROVIDERS)
def test_other_targets_have_better_ways(graphs, device):
    with pytest.raises(UsageError, match="build a plan with `minimind-export engine`"):
        load_session(graphs["tensorrt"], device=device, threads=1)
    with pytest.raises(UsageError, match="is for ort: take --device cuda"):
        load_session(graphs["ort"], device=device, threads=1)


@pytest.mark.skipif(HAS_DRIVER, reason="there is an NVIDIA driver here")
@pytest.mark.parametrize("device", PROVIDERS)
def test_without_a_gpu(graphs, device):
    with pytest.raises(MissingError, match=f"--device {device} needs an NVIDIA driver and GPU") as caught:
        load_session(graphs["portable"], device=device, threads=1)
    assert caught.value.exit_code == 4


class Plugins:
    """ONNX Runtime on a machine with a GPU; its sessions run on the CPU all the same."""

    def __init__(self, available=(), starts=True, finds=True):
        self.devices = [SimpleNamespace(ep_name="CPUExecutionProvider")]
        self.registered, self.asked = [], []
        self._available, self._starts, self._finds = available, starts, finds
        self.SessionOptions, self.InferenceSession = self._options, self._session

    def __getattr__(self, name):
        return getattr(onnxruntime, name)

    def get_available_providers(self):
        return [*self._available, "CPUExecutionProvider"]

    def preload_dlls(self):
        pass

    def get_ep_devices(self):
        return self.devices

    def register_execution_provider_library(self, name, path):
        self.registered.append((name, path))
        self.devices += [SimpleNamespace(ep_name=name)] * 2 * self._finds

    def _options(self):
        options = SimpleNamespace(add_session_config_entry=lambda *entry: None)
        options.add_provider_for_devices = lambda devices, settings: self.asked.append((devices, settings))
        return options

    def _session(self, path, options, providers=(), enable_fallback=True):
        if list(providers) == ["CPUExecutionProvider"]:  # to ask what the graph is
            return onnxruntime.InferenceSession(path, providers=providers)
        self.asked.append(providers)
        return SimpleNamespace(get_providers=lambda: [TENSORRT, RTX] if self._starts else ["CPUExecutionProvider"])


@pytest.fixture
def opened(graphs, monkeypatch):
    monkeypatch.setattr(tensorrt_provider, "CudaLibrary", lambda: None)
    monkeypatch.setattr(tensorrt_provider, "find_device", lambda library: None)
    monkeypatch.setattr(tensorrt_provider, "find_spec", lambda name: name)
    monkeypatch.setattr(
        tensorrt_provider, "import_module", lambda name: SimpleNamespace(get_library_path=lambda: "ep.so")
    )
    return lambda runtime, device: open_by_tensorrt(runtime, graphs["portable"], device, 1)


def test_the_plugin_is_made_known_once(opened, facts):
    runtime = Plugins()
    for _ in range(2):
        opened(runtime, "rtx")
    assert runtime.registered == [(RTX, "ep.so")]
    devices, settings = runtime.asked[0]
    assert [each.ep_name for each in devices] == [RTX]
    assert settings == profile_options(facts, "rtx")


def test_full_tensorrt_before_cuda_before_the_cpu(opened, facts):
    runtime = Plugins(available=(TENSORRT, "CUDAExecutionProvider"))
    opened(runtime, "tensorrt")
    expected = [(TENSORRT, profile_options(facts, "tensorrt")), "CUDAExecutionProvider", "CPUExecutionProvider"]
    assert runtime.asked == [expected]


@pytest.mark.parametrize(
    ("device", "runtime", "expected"),
    [
        ("tensorrt", Plugins(), "is not installed: run `pip uninstall -y onnxruntime`"),
        ("tensorrt", Plugins((TENSORRT, "CUDAExecutionProvider"), starts=False), "did not start"),
        ("rtx", Plugins(finds=False), "knows no GPU here"),
        ("rtx", Plugins(starts=False), r"did not start: run `pip install 'minimind-edge\[rtx\]'`"),
    ],
)
def test_a_provider_that_is_missing(opened, device, runtime, expected):
    with pytest.raises(MissingError, match=expected) as caught:
        opened(runtime, device)
    assert caught.value.exit_code == 4


def test_the_plugin_that_is_not_installed(opened, monkeypatch):
    monkeypatch.setattr(tensorrt_provider, "find_spec", lambda name: None)
    with pytest.raises(MissingError, match=f"{RTX} is not installed"):
        opened(Plugins(), "rtx")


def test_what_is_called_is_there():
    """In ONNX Runtime itself, and in NVIDIA's wheel where it is installed."""
    for name in ("get_ep_devices", "register_execution_provider_library"):
        assert callable(getattr(onnxruntime, name))
    assert callable(onnxruntime.SessionOptions().add_provider_for_devices)
    assert hasattr(onnxruntime.get_ep_devices()[0], "ep_name")
    if find_spec(tensorrt_provider.PLUGIN):
        from onnxruntime_ep_nv_tensorrt_rtx import get_ep_name, get_library_path

        assert get_ep_name() == RTX
        assert str(get_library_path()).endswith(".so")
