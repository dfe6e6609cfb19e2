"""Real plans, built by TensorRT-RTX without a GPU: what is written, and what is refused."""

from __future__ import annotations

import hashlib
import json
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import onnx
import pytest

from minimind_edge.export.checkpoint_options import CheckpointOptions
from minimind_edge.export.errors import ExportError
from minimind_edge.export.inspection import inspect_path
from minimind_edge.export.plan import PlanRequest, build_plan
from minimind_edge.export.plan import backend as choice_module
from minimind_edge.export.plan import pipeline as pipeline_module
from minimind_edge.runtime.errors import ArtifactError, MissingError, UsageError
from minimind_edge.runtime.tensorrt.backend import load_backend, rtx_libraries
from minimind_edge.runtime.tensorrt.cuda import CudaDevice
from minimind_edge.runtime.tensorrt.loading import LoadedEngine
from minimind_edge.runtime.tensorrt.plan import ComputeCapability, Plan

NEEDS_RTX = pytest.mark.skipif(
    not rtx_libraries() or not find_spec("tensorrt_rtx_bindings"),
    reason="TensorRT-RTX's wheels are not installed: run `make setup`",
)


@pytest.fixture
def source(decoder, tmp_path):
    def save(precision="fp16", **metadata):
        return decoder.save(tmp_path / "source" / "model.onnx", precision, **metadata)

    (tmp_path / "source").mkdir()
    return save


def request(source, tmp_path, **options):
    return PlanRequest(source=source, output=tmp_path / "out" / "model.plan", backend="rtx", **options)


@NEEDS_RTX
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_plan_and_what_says_what_it_is(source, tmp_path, precision):
    graph = source(precision)
    told = []
    result = build_plan(
        request(graph, tmp_path, max_batch=3, max_length=64, max_chunk=16, compute_capabilities=("8.9", "8.6")),
        lambda stage, done: told.append(done),
    )
    data = result.plan.read_bytes()
    assert data[:4] == b"vtrt"
    content = json.loads(result.description.read_text())
    assert content == result.content
    assert content["plan"] == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    assert content["graph"]["sha256"] == hashlib.sha256(graph.read_bytes()).hexdigest()
    assert (content["backend"], content["precision"]) == ("rtx", precision)
    assert content["backend_version"].startswith("1.7.1.")
    assert content["compute_capabilities"] == ["8.6", "8.9"]
    assert content["limits"] == {"batch_size": 3, "length": 64, "chunk": 16}
    assert [each["name"] for each in content["profiles"]] == ["prefill", "decode"]
    kv_type = {"fp32": "float32", "fp16": "float16"}[precision]
    tensors = {each["name"]: (each["mode"], each["dtype"], each["shape"]) for each in content["tensors"]}
    assert tensors["input_ids"] == ("input", "int32", [-1, -1])
    assert tensors["logits"] == ("output", "float32", [-1, 1, 64])
    assert tensors["present.1.value"] == ("output", kv_type, [-1, 2, 64, 16])
    assert len(tensors) == 3 + 4 + 1 + 4
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert sorted(each.name for each in result.plan.parent.iterdir()) == ["model.plan", "model.plan.json"]


@NEEDS_RTX
def test_weights_beside_the_graph_are_found(source, tmp_path):
    graph = source()
    model = onnx.load(graph)
    onnx.save(model, graph, save_as_external_data=True, location="model.onnx_data", size_threshold=256)
    assert (graph.parent / "model.onnx_data").stat().st_size > 20_000
    assert build_plan(request(graph, tmp_path, max_length=32)).plan.stat().st_size > 50_000


@NEEDS_RTX
def test_an_artifact_gives_its_tokenizer_and_proof(source, tmp_path):
    graph = source()
    folder = graph.parent
    parity = {"passed": True}
    entry = {"file": "model.onnx", "target": "tensorrt", "precision": "fp16", "parity": parity}
    manifest = {
        "format": 1,
        "tool": {"name": "minimind-edge"},
        "checkpoint": {"file": "tiny.pth", "sha256": "ab" * 32, "generation": "minimind2"},
        "graphs": [entry],
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json", "config.json"):
        (folder / name).write_text(f'{{"of": "{name}"}}')
    output = tmp_path / "out" / "model.plan"
    output.parent.mkdir()
    (output.parent / "generation_config.json").write_text('{"mine": true}')
    result = build_plan(PlanRequest(source=folder, output=output, max_length=32))
    assert result.has_tokenizer
    assert result.content["checkpoint"] == manifest["checkpoint"]
    assert result.content["graph"]["parity"] == parity
    assert json.loads((output.parent / "generation_config.json").read_text()) == {"mine": True}
    assert json.loads((output.parent / "tokenizer.json").read_text()) == {"of": "tokenizer.json"}
    lines = "\n".join(inspect_path(output).lines())
    assert "TensorRT-RTX 1.7.1" in lines
    assert "passed in ONNX Runtime" in lines
    with pytest.raises(ExportError, match=r"no graph of target tensorrt in fp32 \(found tensorrt fp16\)"):
        build_plan(PlanRequest(source=folder, output=output, precision="fp32"))


@NEEDS_RTX
def test_a_node_that_the_parser_does_not_take_is_named(source, tmp_path):
    graph = source()
    model = onnx.load(graph)
    model.graph.node[-1].CopyFrom(
        onnx.helper.make_node("MatMulNBits", ["scores"], ["logits"], name="lm_head.MatMul", domain="com.microsoft")
    )
    model.opset_import.add(domain="com.microsoft", version=1)
    graph.write_bytes(model.SerializeToString())
    with pytest.raises(ExportError) as caught:
        build_plan(request(graph, tmp_path))
    message = str(caught.value)
    assert "TensorRT-RTX 1.7.1" in message
    assert "'lm_head.MatMul' (MatMulNBits)" in message
    assert "export the checkpoint again" in message
    assert not (tmp_path / "out").exists()


@NEEDS_RTX
def test_a_plan_that_cannot_be_written_leaves_what_was_there(source, tmp_path, monkeypatch):
    first = build_plan(request(source(), tmp_path, max_length=32))
    before = {each.name: each.read_bytes() for each in first.plan.parent.iterdir()}

    def full(path, value):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("minimind_edge.export.plan.files.write_json", full)
    with pytest.raises(OSError, match="No space"):
        build_plan(request(source(), tmp_path, max_length=16))
    assert {each.name: each.read_bytes() for each in first.plan.parent.iterdir()} == before


@NEEDS_RTX
@pytest.mark.skipif(choice_module._device_at_hand() is not None, reason="there is a GPU here")
def test_without_a_driver_a_plan_does_not_load(source, tmp_path):
    """Whoever leaves out the preflight is told so as well, and never gets a null object."""
    plan = Plan.read(build_plan(request(source(), tmp_path, max_length=32)).plan)
    with pytest.raises(MissingError, match=r"TensorRT-RTX 1\.7\.1"):
        LoadedEngine(load_backend("rtx"), plan, plan.load_bytes())


@NEEDS_RTX
def test_what_tensorrt_rtx_calls_malformed(source, tmp_path):
    plan = Plan.read(build_plan(request(source(), tmp_path, max_length=32)).plan)
    with pytest.raises(ArtifactError, match=r"MALFORMED_ENGINE.*build it again with `minimind-export engine"):
        LoadedEngine(load_backend("rtx"), plan, b"vtrt")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"max_batch": 0}, "--max-batch must be at least 1"),
        ({"backend": "cuda"}, "--backend 'cuda' is unknown: expected one of auto, tensorrt, rtx"),
        ({"output": "model.engine"}, "a plan's name ends with .plan"),
    ],
)
def test_options_out_of_range(options, expected):
    options = options | ({"output": Path(options["output"])} if "output" in options else {})
    with pytest.raises(UsageError, match=expected):
        build_plan(PlanRequest(**options))


@NEEDS_RTX
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"workspace": 1 << 30}, "--workspace is for full TensorRT"),
        ({"checkpoint": CheckpointOptions(lora=(Path("lora.pth"),))}, "--lora is for checkpoints, and .* is a graph"),
        ({"precision": "fp32"}, "is fp16, not fp32"),
        ({"max_length": 1000}, "--max-length 1000 is more than the 256 positions"),
        ({"compute_capabilities": ("9.0",)}, "H100"),
    ],
)
def test_options_that_have_no_place(source, tmp_path, options, expected):
    with pytest.raises(UsageError, match=expected):
        build_plan(request(source(), tmp_path, **options))


class OldParser:
    """The parser of a TensorRT from before `TensorScatter`."""

    def __init__(self, network, logger):
        pass

    def supports_operator(self, name):
        return name != "TensorScatter"


def test_a_tensorrt_without_tensor_scatter_is_refused_before_anything_is_exported(monkeypatch, tmp_path):
    builder = SimpleNamespace(create_network=lambda flags: None)
    module = SimpleNamespace(
        OnnxParser=OldParser, Builder=lambda logger: builder, NetworkDefinitionCreationFlag=SimpleNamespace()
    )
    old = SimpleNamespace(module=module, logger=lambda: None, title="TensorRT 10.3.0.26")
    monkeypatch.setattr(pipeline_module, "choose_backend", lambda request: choice_module.Choice(old, None))
    with pytest.raises(MissingError, match=r"TensorRT 10\.3\.0\.26 is too old: .*TensorScatter.*--device tensorrt"):
        build_plan(PlanRequest(output=tmp_path / "model.plan"), lambda *_: pytest.fail("something was exported"))


def device(capability):
    return CudaDevice(0, "NVIDIA Test", ComputeCapability.parse(capability), 8 << 30, "13.0")


@pytest.mark.parametrize(
    ("at_hand", "has_rtx", "expected"),
    [
        (None, True, "rtx"),
        ("8.9", True, "rtx"),
        ("8.9", False, "tensorrt"),
        ("8.7", True, "tensorrt"),
        ("9.0", True, "tensorrt"),
    ],
)
def test_the_backend_that_fits(monkeypatch, at_hand, has_rtx, expected):
    monkeypatch.setattr(choice_module, "_device_at_hand", lambda: at_hand and device(at_hand))
    monkeypatch.setattr(choice_module, "has_backend", lambda name: has_rtx)
    monkeypatch.setattr(choice_module, "load_backend", lambda name: name)
    assert choice_module.choose_backend(PlanRequest()).backend == expected


def test_nothing_that_builds_without_a_gpu(monkeypatch):
    monkeypatch.setattr(choice_module, "_device_at_hand", lambda: None)
    monkeypatch.setattr(choice_module, "has_backend", lambda name: False)
    with pytest.raises(MissingError, match=r"minimind-edge\[rtx\].*minimind-edge\[tensorrt\]"):
        choice_module.choose_backend(PlanRequest())
    with pytest.raises(MissingError, match="full TensorRT measures kernels"):
        choice_module.choose_backend(PlanRequest(backend="tensorrt"))
