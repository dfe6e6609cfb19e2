"""`minimind-export engine`, and what the other commands do with a plan where there is no GPU."""

from __future__ import annotations

import json
from importlib.util import find_spec

import pytest
from static_decoder import StaticDecoder

from minimind_edge.runtime.errors import MissingError
from minimind_edge.runtime.tensorrt.backend import rtx_libraries
from minimind_edge.runtime.tensorrt.cuda import CudaLibrary

NEEDS_RTX = pytest.mark.skipif(
    not rtx_libraries() or not find_spec("tensorrt_rtx_bindings"),
    reason="TensorRT-RTX's wheels are not installed: run `make setup`",
)

HAS_DRIVER = True
try:
    CudaLibrary()
except MissingError:
    HAS_DRIVER = False
NEEDS_NO_GPU = pytest.mark.skipif(HAS_DRIVER, reason="there is an NVIDIA GPU here")


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    return StaticDecoder().save(tmp_path_factory.mktemp("graph") / "model.onnx", "fp16")


@pytest.fixture(scope="module")
def built(command, graph):
    """A plan's path, and what the command printed."""
    plan = graph.parent / "out" / "model.plan"
    result = command("minimind-export", "engine", graph, "-o", plan, "--backend", "rtx", "--max-length", 64, "--json")
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return plan, json.loads(result.stdout)


@NEEDS_RTX
def test_a_plan_as_json(built):
    plan, printed = built
    assert printed["plan"] == str(plan)
    assert printed["description"] == json.loads(plan.with_name("model.plan.json").read_text())
    assert printed["has_tokenizer"] is False


@NEEDS_RTX
def test_a_plan_for_people(command, graph, tmp_path):
    result = command("minimind-export", "engine", graph, "-o", tmp_path / "m.plan", "--compute-capability", "8.9")
    assert result.returncode == 0, result.stderr
    assert "runs on compute capability 8.9" in result.stdout
    assert f"minimind-run --engine {tmp_path / 'm.plan'} --ids" in result.stdout
    assert "[100%]" in result.stderr


@NEEDS_RTX
def test_a_plan_is_inspected_without_a_gpu(command, built):
    plan, printed = built
    result = command("minimind-export", "inspect", plan, "--json")
    assert result.returncode == 0, result.stderr
    shown = json.loads(result.stdout)
    assert shown["kind"] == "plan"
    assert shown["limits"] == printed["description"]["limits"] == {"batch_size": 1, "length": 64, "chunk": 64}
    for path in (plan, plan.parent):
        text = command("minimind-export", "inspect", path).stdout
        assert "compute capability 8.0, 8.6, 8.9, 12.0, 12.1" in text


@NEEDS_RTX
def test_from_the_checkpoint_to_the_plan(export_here, command, checkpoint, tmp_path):
    """As for a Jetson: exported on one machine, built on another."""
    folder = tmp_path / "artifact"
    options = ("--target", "tensorrt", "--precision", "fp16", "--max-length", 256)
    exported = export_here("onnx", checkpoint, "-o", folder, *options)
    assert exported.returncode == 0, exported.stderr
    said = command("minimind-run", "--engine", folder, "--greedy", "--max-new-tokens", 4, "hello")
    assert said.returncode == 0, said.stderr
    built = export_here("engine", folder, "--backend", "rtx", "--json")
    assert built.returncode == 0, built.stderr
    content = json.loads(built.stdout)["description"]
    assert (content["kv_cache"]["form"], content["graph"]["parity"]["passed"]) == ("static", True)
    assert "float16, " in command("minimind-export", "inspect", folder / "model.plan").stdout


@NEEDS_RTX
@NEEDS_NO_GPU
@pytest.mark.parametrize(
    "program",
    [("minimind-run", "--engine"), ("minimind-export", "verify"), ("minimind-bench",)],
    ids=lambda words: words[0],
)
def test_running_a_plan_without_a_driver(refused, built, program):
    plan, _ = built
    options = ("--ids", "1,2") if program[0] == "minimind-run" else ()
    line = refused(4, *program, plan, *options)
    assert "needs TensorRT-RTX 1.7.1" in line
    assert "no NVIDIA driver here" in line


@NEEDS_RTX
def test_damaged_plans(refused, built, tmp_path):
    plan, _ = built
    copy = tmp_path / "model.plan"
    copy.write_bytes(plan.read_bytes()[:-1])
    assert "model.plan.json is missing" in refused(3, "minimind-run", "--engine", copy, "--ids", "1")
    copy.with_name("model.plan.json").write_text(plan.with_name("model.plan.json").read_text())
    assert "damaged or was replaced" in refused(3, "minimind-run", "--engine", copy, "--ids", "1")
    copy.write_bytes(b"not a plan")
    assert "is no plan of TensorRT-RTX" in refused(3, "minimind-run", "--engine", copy, "--ids", "1")


@NEEDS_RTX
def test_no_cpu_runs_a_plan(refused, built):
    assert "which no CPU runs" in refused(2, "minimind-run", "--engine", built[0], "--ids", "1", "--device", "cpu")


@NEEDS_RTX
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--compute-capability", "9.0"), "H100"),
        (("--compute-capability", "8.7"), "Jetson Orin"),
        (("--compute-capability", "ampere"), "is no compute capability"),
        (("--max-length", "1000"), "more than the 256 positions"),
        (("--precision", "fp32"), "is fp16, not fp32"),
        (("--workspace", "100"), "is for full TensorRT"),
    ],
)
def test_options_out_of_range(refused, graph, tmp_path, options, expected):
    arguments = ("minimind-export", "engine", graph, "-o", tmp_path / "m.plan", "--backend", "rtx", *options)
    assert expected in refused(2, *arguments)
    assert not list(tmp_path.iterdir())


@NEEDS_RTX
def test_sources_that_are_none(refused, tmp_path):
    other = StaticDecoder().save(tmp_path / "ort.onnx", target="ort")
    output = tmp_path / "out" / "m.plan"
    for source, expected in ((other, "is for target ort"), (tmp_path / "none.onnx", "no graph at")):
        assert expected in refused(3, "minimind-export", "engine", source, "-o", output, "--backend", "rtx")
    assert not output.parent.exists()


@NEEDS_NO_GPU
def test_full_tensorrt_needs_the_gpu(refused, graph, tmp_path):
    line = refused(4, "minimind-export", "engine", graph, "-o", tmp_path / "m.plan", "--backend", "tensorrt")
    assert "measures kernels on the GPU" in line
