"""Graphs of target `tensorrt` by ONNX Runtime: the same model in every precision, and wrong ones found out."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from graph_files import changed_graph, write_graph
from graph_rows import make_model
from onnx import numpy_helper
from rounded_weights import tensorrt_weights

from minimind_edge.export.graph import build_graph
from minimind_edge.export.parity import ParityReport, Suite, compare, compare_runners, tolerance_of
from minimind_edge.export.parity.runner import SessionRunner
from minimind_edge.minimind import MiniMindForCausalLM
from minimind_edge.runtime.errors import ContextLengthError, MissingError, UsageError
from minimind_edge.runtime.load import load_session
from minimind_edge.runtime.session.session import Session

MAX_LENGTH = 96
LEVELS = {"int8": 127, "int4": 7}


def export(model: MiniMindForCausalLM, folder: Path, precision: str = "fp32") -> Path:
    weights = tensorrt_weights(model, precision)
    path = write_graph(folder, model, "tensorrt", precision, MAX_LENGTH, name=precision, quantized=weights)
    onnx.checker.check_model(str(path))
    return path


def compared(model: MiniMindForCausalLM, path: Path, steps: int = 24) -> ParityReport:
    return compare(model, path, target="tensorrt", precision=path.stem, steps=steps)


@pytest.mark.parametrize("variant", ["mha", "mqa", "yarn", "moe", "moe-unnormalised", "minimind3", "minimind3-moe"])
def test_float32_is_eager(variant: str, tmp_path: Path) -> None:
    model = make_model(variant)
    report = compared(model, export(model, tmp_path))
    assert report, report.failures
    assert report.greedy == (24, 24)
    assert report.max_rel < 1e-5
    runners = {one.runner for one in report.measurements}
    assert runners == {"graph, in place", "session", "session, rolled back"}
    assert (report.experts[1] > 0) == model.config.use_moe


@pytest.mark.parametrize("variant", ["gqa", "minimind3-moe"])
@pytest.mark.parametrize("precision", ["fp16", "bf16", "int8", "int4"])
def test_reduced_precision_stays_within_its_bounds(variant: str, precision: str, tmp_path: Path) -> None:
    model = make_model(variant)
    report = compared(model, export(model, tmp_path, precision))
    assert report, report.failures
    assert report.max_abs > 1e-4, "nothing was rounded"


def test_positions_past_yarns_original_context(tmp_path: Path) -> None:
    """2,060 tokens, and some more behind them: frequencies are stretched from position 2,048 on."""
    model = make_model("yarn", max_position_embeddings=4096, num_hidden_layers=1)
    plain = make_model("gqa", max_position_embeddings=4096, num_hidden_layers=1)
    path = write_graph(tmp_path, model, "tensorrt", "fp32", 4096)
    session = load_session(path, device="cpu", threads=1)
    text = np.random.default_rng(0).integers(2, 131, 2064)
    found = [session.prefill(text[None, :2060])[0].copy()]
    found += [session.decode(text[end : end + 1])[0].copy() for end in range(2060, 2064)]
    with torch.inference_mode():
        expected, unstretched = (one(torch.from_numpy(text)[None]).logits[0, 2059:].numpy() for one in (model, plain))
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()
    assert np.abs(expected - unstretched).max() > 1e-2 * np.abs(expected).max(), (
        "this text does not tell YaRN from none"
    )


def test_a_thorough_comparison_goes_past_it_too(tmp_path: Path) -> None:
    scaling = {"original_max_position_embeddings": 30}
    model = make_model("yarn", rope_scaling_parameters=scaling, num_hidden_layers=1)
    report = compare(model, export(model, tmp_path), target="tensorrt", precision="fp32", steps=4, thorough=True)
    assert report, report.failures
    assert any(one.case == "after 30 tokens" for one in report.measurements)


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_a_graph_computes_what_its_integers_say(precision: str, tmp_path: Path) -> None:
    """Against a model with the same rounded weights the bounds are float16's own."""
    model = make_model("gqa")
    path = export(model, tmp_path, precision)
    rounded = copy.deepcopy(model)
    for name, weight in dequantized(path, LEVELS[precision]).items():
        parameter = rounded.get_parameter(name)
        assert 0 < (parameter - weight).abs().max() < 0.2 * parameter.abs().max()
        parameter.data = weight
    tolerance = tolerance_of("fp16", 2)

    def session() -> SessionRunner:
        return SessionRunner(load_session(path, device="cpu", threads=1))

    suite = Suite(model.config.vocab_size, MAX_LENGTH)
    report = compare_runners(rounded, [session], suite, tolerance, target="tensorrt", precision=precision, steps=24)
    # A session shows no cache, and the report says so; nothing else may be amiss.
    assert report.failures == ("no present tensor was compared, expected every layer's",)


def dequantized(path: Path, limit: int) -> dict[str, torch.Tensor]:
    """The weights of a graph's integers by NumPy, under the names of the state dict, [out, in]."""
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}
    found = {}
    for name, array in tensors.items():
        if name.endswith(".integers"):
            scales = tensors[name.removesuffix("integers") + "scales"].astype(np.float32)
            integers = array.astype(np.float32)
            assert np.abs(integers).max() in {limit, limit + 1}
            if scales.ndim == 2:
                scales = np.repeat(scales, len(integers) // len(scales), axis=0)
            found[name.removesuffix(".T.integers")] = torch.from_numpy((integers * scales).T.copy())
    assert len(found) == 2 * 7
    return found


@pytest.mark.parametrize(
    ("op_type", "replacement"),
    [
        pytest.param("LessOrEqual", "Less", id="a token that does not see itself"),
        pytest.param("Cos", "Sin", id="wrong angles"),
    ],
)
def test_a_wrong_operator_fails(op_type: str, replacement: str, tmp_path: Path) -> None:
    model = make_model("gqa")

    def change(changed: onnx.ModelProto) -> None:
        graph = changed.graph
        node = next(node for node in graph.node if node.op_type == op_type)
        node.op_type = replacement

    assert not compared(model, changed_graph(export(model, tmp_path), tmp_path, change), steps=4)


def test_a_mask_that_shows_stale_slots_fails(tmp_path: Path) -> None:
    """What a roll-back leaves behind must count nothing: a mask one slot too wide lets it in."""
    model = make_model("gqa")

    def change(changed: onnx.ModelProto) -> None:
        graph = changed.graph
        node = next(node for node in graph.node if node.op_type == "LessOrEqual")
        graph.initializer.append(numpy_helper.from_array(np.array(1), "one_more"))
        wider = onnx.helper.make_node("Add", [node.input[1], "one_more"], ["wider"])
        graph.node.insert(list(graph.node).index(node), wider)
        node.input[1] = "wider"

    report = compared(model, changed_graph(export(model, tmp_path), tmp_path, change), steps=4)
    assert not report
    assert any("graph, in place" in line for line in report.failures)


def test_the_interface(tmp_path: Path) -> None:
    graph = onnx.load(export(make_model("gqa"), tmp_path, "fp16")).graph
    assert describe(graph.input) == {
        "input_ids": ("INT32", ["batch_size", "sequence_length"]),
        "write_indices": ("INT32", ["batch_size"]),
        "last_index": ("INT32", ["batch_size"]),
        **{
            f"past_key_values.{layer}.{part}": ("FLOAT16", ["batch_size", 2, "kv_capacity", 16])
            for layer in range(2)
            for part in ("key", "value")
        },
    }
    outputs = describe(graph.output)
    assert outputs.pop("logits") == ("FLOAT", ["batch_size", 1, 131])
    assert set(outputs) == {f"present.{layer}.{part}" for layer in range(2) for part in ("key", "value")}
    assert all(value == ("FLOAT16", ["batch_size", 2, "kv_capacity", 16]) for value in outputs.values())


def describe(values: list[onnx.ValueInfoProto]) -> dict[str, tuple[str, list[str | int]]]:
    def one(tensor: onnx.TypeProto.Tensor) -> tuple[str, list[str | int]]:
        dims = [dim.dim_param or dim.dim_value for dim in tensor.shape.dim]
        return onnx.TensorProto.DataType.Name(tensor.elem_type), dims

    return {value.name: one(value.type.tensor_type) for value in values}


def test_integers_are_small(tmp_path: Path) -> None:
    model = make_model("gqa", hidden_size=128, intermediate_size=256, vocab_size=16)
    sizes = {precision: export(model, tmp_path, precision).stat().st_size for precision in ("fp16", "int8", "int4")}
    assert sizes["int8"] < 0.6 * sizes["fp16"]
    assert sizes["int4"] < 0.4 * sizes["fp16"]


def test_a_session_at_its_limit(tmp_path: Path) -> None:
    model = make_model("gqa")
    limited_to_its_slots(model, load_session(export(model, tmp_path), device="cpu", threads=1, max_length=20))


def limited_to_its_slots(model: MiniMindForCausalLM, session: Session) -> None:
    """Fill 20 slots, and try one more."""
    ids = np.arange(2, 22)[None]
    session.prefill(ids[:, :18])
    with pytest.raises(ContextLengthError, match="3 more tokens after 18"):
        session.prefill(ids[:, :3])
    assert session.length == 18
    session.decode(ids[:, 18])
    last = session.decode(ids[:, 19])
    with torch.inference_mode():
        expected = model(torch.from_numpy(ids)).logits[:, -1].numpy()
    assert np.allclose(last, expected, atol=1e-4)
    with pytest.raises(ContextLengthError):
        session.decode(ids[:, 0])


def test_bfloat16_has_no_arithmetic_on_the_cpu(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"build a plan with `minimind-export engine`"):
        load_session(export(make_model("gqa"), tmp_path, "bf16"), device="cpu")


def test_what_does_not_go_together() -> None:
    model = make_model("gqa")
    with pytest.raises(UsageError, match=r"target ort comes in .*, not in bf16; choose --target tensorrt"):
        build_graph(model, "ort", "bf16", 8)
