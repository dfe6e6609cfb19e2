"""Every kind of model through the engine: real plans, and what their session computes on the stand-in."""

from __future__ import annotations

import json
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from checkpoint_states import make_state
from described_plan import PLAN_BYTES, describe_graph
from rounded_weights import tensorrt_weights
from tensorrt_standin import StandInDriver, StandInEngine

from minimind_edge.export.errors import ExportError
from minimind_edge.export.graph import build_graph, save_graph
from minimind_edge.export.plan import PlanRequest, build_plan
from minimind_edge.export.verification import verify_artifact
from minimind_edge.minimind import load_checkpoint
from minimind_edge.runtime.load import load_session
from minimind_edge.runtime.tensorrt import loading
from minimind_edge.runtime.tensorrt.backend import rtx_libraries
from minimind_edge.runtime.tensorrt.model import TensorRTModel
from minimind_edge.runtime.tensorrt.plan import EXPERTS_SUFFIX, Plan, sidecar_path

KINDS = ("minimind2", "minimind2-moe", "minimind2-yarn", "minimind3", "minimind3-moe")
OLDER = ("v1", "minimind2-legacy", "minimind2-legacy-moe")
PRECISIONS = ("fp32", "fp16", "bf16", "int8", "int4")
CAPACITY = 64

NEEDS_RTX = pytest.mark.skipif(
    not rtx_libraries() or not find_spec("tensorrt_rtx_bindings"),
    reason="TensorRT-RTX's wheels are not installed: run `make setup`",
)


@pytest.fixture(params=[*KINDS, *OLDER])
def kind_of_model(request, random_model, config_of_kind, tmp_path):
    """A tiny model of each kind, those of older checkpoints read from such a file."""
    if request.param in KINDS:
        return random_model(config_of_kind(request.param))
    kind = request.param.removesuffix("-moe")
    torch.save(make_state(kind, moe=kind != request.param), tmp_path / "full_sft_64.pth")
    return load_checkpoint(tmp_path / "full_sft_64.pth")


@NEEDS_RTX
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_plan_of_every_kind_of_model_in_every_precision(kind_of_model, tmp_path, precision):
    check_plan(kind_of_model, tmp_path, precision)


def check_plan(model, folder, precision):
    """Build a plan; what its description says."""
    graph = folder / "model.onnx"
    weights = tensorrt_weights(model, precision)
    save_graph(build_graph(model, "tensorrt", precision, CAPACITY, quantized=weights), graph)
    result = build_plan(PlanRequest(graph, folder / "model.plan", backend="rtx"))
    data, content = result.plan.read_bytes(), result.content
    assert data.startswith(b"vtrt")
    assert len(data) == content["plan"]["bytes"]
    assert content["precision"] == precision
    kv_type = {"fp32": "float32", "bf16": "bfloat16"}.get(precision, "float16")
    assert content["kv_cache"]["dtype"] == kv_type
    assert {each["dtype"] for each in content["tensors"] if each["name"].startswith("past")} == {kv_type}
    experts = Plan.read(result.plan).experts
    assert [each.per_token for each in experts] == [model.config.num_experts_per_tok] * 2 * model.config.use_moe
    return content


@NEEDS_RTX
def test_a_plan_holds_its_weights_once(random_model, config_of_kind, tmp_path):
    """Beside them it has the sources of its kernels, some 3 MB and 0.8 MB a layer."""
    model = random_model(config_of_kind("minimind2", hidden_size=512, num_attention_heads=8))
    graph = tmp_path / "model.onnx"
    save_graph(build_graph(model, "tensorrt", "fp16", CAPACITY), graph)
    result = build_plan(PlanRequest(graph, tmp_path / "model.plan", backend="rtx"))
    weights = 2 * sum(parameter.numel() for parameter in model.parameters())
    assert weights > 10e6
    assert result.plan.stat().st_size < weights + 6e6


@pytest.fixture
def load(monkeypatch, tmp_path):
    """Describe a plan of a model, and have it run by the stand-in: `load(model, **limits)` gives its path."""

    def describe(model, **limits):
        graph = tmp_path / "model.onnx"
        save_graph(build_graph(model, "tensorrt", "fp32", CAPACITY), graph)
        content = describe_graph(graph, **{"batch_size": 3, "length": CAPACITY, "chunk": 16} | limits)
        path = tmp_path / "model.plan"
        path.write_bytes(PLAN_BYTES)
        sidecar_path(path).write_text(json.dumps(content | {"config": model.config.arguments()}))
        plan = Plan.read(path)
        driver = StandInDriver()
        engine = StandInEngine(driver, plan, graph)
        running = TensorRTModel(plan, driver, (engine.context(0), engine.context(1)))
        monkeypatch.setattr(loading, "load_plan", lambda path: running)
        return path

    return describe


def redescribe(path, **changes):
    """Change what stands next to a plan."""
    sidecar = sidecar_path(path)
    sidecar.write_text(json.dumps(json.loads(sidecar.read_text()) | changes))


def test_logits_and_greedy_tokens_are_eagers(load, tiny_model):
    running = load_session(load(tiny_model))
    rows = [np.random.default_rng(seed).integers(3, 128, size).tolist() for seed, size in ((0, 21), (1, 5))]
    ids, mask = np.zeros((2, 21), np.int64), np.zeros((2, 21), np.int64)
    for index, row in enumerate(rows):
        ids[index, 21 - len(row) :], mask[index, 21 - len(row) :] = row, 1
    found = running.prefill(ids, mask)
    for _ in range(12):
        chosen = []
        for logits, row in zip(found, rows, strict=True):
            with torch.inference_mode():
                expected = tiny_model(torch.tensor([row])).logits[0, -1].numpy()
            assert np.abs(logits - expected).max() <= 1e-4 * np.abs(expected).max()
            chosen.append(int(expected.argmax()))
            assert int(logits.argmax()) == chosen[-1]
            row.append(chosen[-1])
        found = running.decode(np.array(chosen))


@pytest.fixture(params=["dense", "moe"])
def saved(request, random_model, config_of_kind, tmp_path):
    """A checkpoint on the disk, as `tiny.pth`, and its model."""
    model = random_model(config_of_kind("minimind2", use_moe=request.param == "moe"))
    torch.save(model.state_dict(), tmp_path / "tiny.pth")
    return model, tmp_path / "tiny.pth"


@pytest.mark.parametrize(("changed", "rows"), [(False, 3), (True, 3), (False, 1)])
def test_verify_holds_a_plan_against_its_checkpoint(load, saved, changed, rows):
    model, checkpoint = saved
    if changed:
        model.model.layers[1].self_attn.o_proj.weight.data[3, 5] += 1.0
    verification = verify_artifact(load(model, batch_size=rows), checkpoint)
    assert bool(verification) is not changed
    assert json.dumps(verification.to_json())
    equal, compared = verification.graphs[0].report.experts
    assert (compared > 0) is model.config.use_moe
    assert changed or equal == compared
    assert any("batches of three rows are left out" in note for note in verification.notes) is (rows == 1)


def test_experts_that_are_not_told_are_spoken_of(load, random_model, config_of_kind, tmp_path, monkeypatch):
    """A plan of another builder may lack the outputs that tell them."""
    model = random_model(config_of_kind("minimind2", use_moe=True))
    torch.save(model.state_dict(), tmp_path / "tiny.pth")
    path = load(model)
    tensors = json.loads(sidecar_path(path).read_text())["tensors"]
    redescribe(path, tensors=[each for each in tensors if not each["name"].endswith(EXPERTS_SUFFIX)])
    monkeypatch.setattr(TensorRTModel, "experts", lambda self: [])  # what was loaded before knows of the outputs
    verification = verify_artifact(path, tmp_path / "tiny.pth")
    assert verification
    assert any("the experts chosen are not compared" in note for note in verification.notes)
    assert verification.graphs[0].report.experts == (0, 0)


def test_verify_needs_to_know_the_checkpoint(load, saved):
    path = load(saved[0])
    redescribe(path, config=None)
    with pytest.raises(ExportError, match="was built from a graph alone"):
        verify_artifact(path)


def test_a_plan_is_an_engine_like_any_other(load, saved):
    """`Engine.load` opens it by its name; its greedy text is eager's."""
    from minimind_edge.runtime import Engine, SamplingParams

    model, _ = saved
    engine = Engine.load(load(model))
    assert engine.stop_token_ids == engine.session.facts.eos_token_ids == (2,)
    text = [5, 9, 70, 33]
    result = engine.generate(text, params=SamplingParams(greedy=True), max_new_tokens=12, ignore_eos=True)
    for token in result.token_ids:
        with torch.inference_mode():
            assert token == int(model(torch.tensor([text])).logits[0, -1].argmax())
        text = [*text, token]
    assert len(result.token_ids) == 12


def test_a_plan_is_measured_as_any_other_artifact(load, saved):
    from minimind_edge.runtime.bench import BenchPlan, measure_artifact

    path = load(saved[0])
    plan = BenchPlan(prompt_tokens=(4, 20), new_tokens=5, batch=2, runs=2)
    report = measure_artifact(path, plan, threads=None, device="auto", progress=lambda *_: None).to_json()
    assert [row["prompt_tokens"] for row in report["rows"]] == [4, 20]
    for row in report["rows"]:
        assert 0 < row["step_overhead_s"] < row["step_s"], "the plan's own run is most of a step, and not all"
    artifact = report["artifact"]
    assert (artifact["target"], artifact["precision"], artifact["device"]) == ("tensorrt", "fp32", "cuda")
    assert artifact["runs_by"] == "TensorRT-RTX 1.7.1.116"
    assert report["disk_bytes"] == len(PLAN_BYTES)
