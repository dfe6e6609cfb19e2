"""Exports of int8 and int4: the graph computes what the integers say, and the manifest says what they cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
import torch

from minimind_edge.export import ExportRequest, ParityError, export_onnx, verify_artifact
from minimind_edge.export.errors import ExportError
from minimind_edge.export.quantization import QuantizationSettings
from minimind_edge.export.quantization.quantize import quantize_model
from minimind_edge.minimind import MiniMindConfig, MiniMindForCausalLM
from minimind_edge.runtime.ort.loading import session_options

SETTINGS = QuantizationSettings(rows=4, length=24, measured_rows=2, held_out_rows=2)

SMALL: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 120,
    "intermediate_size": 96,
    "max_position_embeddings": 4096,
}
MIXTURE = {"use_moe": True, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1}

CONFIGS = {
    "minimind2": MiniMindConfig(**SMALL),
    "minimind2 moe": MiniMindConfig(**SMALL, **MIXTURE),
    "minimind3": MiniMindConfig.minimind3(**SMALL, head_dim=16),
    "minimind3 moe": MiniMindConfig.minimind3(**SMALL, head_dim=16, use_moe=True),
}


def save(config: MiniMindConfig, folder: Path) -> Path:
    torch.manual_seed(0)
    model = MiniMindForCausalLM(config).eval()
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("precision", ["int8", "int4"])
@pytest.mark.parametrize("target", ["ort", "portable", "tensorrt"])
@pytest.mark.parametrize("name", CONFIGS)
def test_export_writes_a_graph_of_what_was_rounded(name: str, target: str, precision: str, tmp_path: Path) -> None:
    checkpoint = save(CONFIGS[name], tmp_path / "checkpoint")
    request = ExportRequest(
        checkpoint, tmp_path / "artifact", target=target, precision=precision, max_length=256, quantization=SETTINGS
    )
    shares: list[float] = []
    result = export_onnx(request, lambda stage, done: shares.append(done))
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert result.parity
    (graph,) = result.manifest["graphs"]
    assert graph["quality"]["mean_kl"] < 0.01
    assert graph["quality"]["tokens"] == 2 * 23
    # random weights of a model this small: norms and routers stay float, and the tables have eight bits
    most = 9 if precision == "int8" else 7
    # the stored bits are counted: in target portable each block of 16 weights or more has a zero point
    most += 8 / 16 * (target == "portable")
    # target tensorrt keeps the tables in float16: 16 bits for a tenth of these weights
    assert 4.5 < graph["quality"]["bits_per_weight"] < most + (16 - most) * 0.2 * (target == "tensorrt")
    assert graph["bytes"] < 0.8 * 4 * result.manifest["architecture"]["parameters"]["total"]
    assert verify_artifact(tmp_path / "artifact", checkpoint)


WIDTHS = {
    "200 with 600": {"hidden_size": 200, "intermediate_size": 600, "num_attention_heads": 5, "num_key_value_heads": 1},
    "100 with 150": {"hidden_size": 100, "intermediate_size": 150, "num_attention_heads": 5, "num_key_value_heads": 1},
    "mixture": {"hidden_size": 72, "intermediate_size": 90, "head_dim": 16, **MIXTURE},
}


@pytest.mark.parametrize("precision", ["int8", "int4"])
@pytest.mark.parametrize("widths", WIDTHS)
def test_widths_that_no_block_divides_are_integers_too(widths: str, precision: str, tmp_path: Path) -> None:
    checkpoint = save(MiniMindConfig(**SMALL | WIDTHS[widths] | {"num_hidden_layers": 1}), tmp_path / "checkpoint")
    for target in (None, "portable", "tensorrt"):
        request = ExportRequest(
            *(checkpoint, tmp_path / f"{target}"),
            target=target or "auto",
            precision=precision,
            max_length=256,
            quantization=SETTINGS,
        )
        result = export_onnx(request)
        assert result.parity
        (graph,) = result.manifest["graphs"]
        bits = graph["quality"]["bits_per_weight"]
        assert bits < 12
        assert graph["target"] == ("portable" if target is None and widths == "100 with 150" else target or "ort")
        (told,) = (note.split()[0] for note in result.notes if note.endswith("bits per weight"))
        assert float(told) == pytest.approx(bits, abs=0.01)
        warned = any(note.startswith("warning: model.layers.0") for note in result.notes)
        assert warned == (target == "tensorrt" and precision == "int4")


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_portable_integers_are_widened_once_when_a_session_loads(precision: str, tmp_path: Path) -> None:
    checkpoint = save(CONFIGS["minimind2"], tmp_path / "checkpoint")
    request = ExportRequest(
        checkpoint,
        tmp_path / "artifact",
        target="portable",
        precision=precision,
        max_length=256,
        quantization=SETTINGS,
        verify=False,
    )
    graph = export_onnx(request).graph
    options = session_options(onnxruntime, threads=1)
    options.optimized_model_filepath = str(tmp_path / "loaded.onnx")
    onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    written, loaded = (
        [node.op_type for node in onnx.load(path).graph.node] for path in (graph, tmp_path / "loaded.onnx")
    )
    assert written.count("DequantizeLinear") > 2
    assert loaded.count("DequantizeLinear") == 1  # of the rows of the embedding, which the tokens choose
    assert "MatMulNBits" not in loaded


@pytest.mark.parametrize("name", ["minimind2", "minimind3 moe"])
def test_beyond_its_budget_int8_takes_smaller_blocks(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from minimind_edge.export.quantization import mixed_precision

    checkpoint = save(CONFIGS[name], tmp_path / "checkpoint")
    found = {}
    for budget in (1e9, 0.0):
        monkeypatch.setattr(mixed_precision, "INT8_BUDGET", budget)
        request = ExportRequest(
            checkpoint, tmp_path / f"{budget:g}", precision="int8", max_length=256, quantization=SETTINGS
        )
        result = export_onnx(request)
        assert result.parity
        attributes = [attribute for node in onnx.load(result.graph).graph.node for attribute in node.attribute]
        found[budget] = [attribute.i for attribute in attributes if attribute.name == "block_size"]
    assert len(found[1e9]) == len(found[0.0])
    assert sum(found[0.0]) < sum(found[1e9])
    assert set(found[0.0]) <= {32, 64}  # 64 wide: where 32 bring nothing, the block stays


def test_the_same_checkpoint_gives_the_same_bytes(tmp_path: Path) -> None:
    checkpoint = save(CONFIGS["minimind2 moe"], tmp_path / "checkpoint")
    graphs = []
    for attempt in ("first", "second"):
        request = ExportRequest(
            checkpoint, tmp_path / attempt, precision="int4", max_length=256, quantization=SETTINGS, verify=False
        )
        graphs.append(export_onnx(request).graph.read_bytes())
    assert graphs[0] == graphs[1]


def test_a_graph_of_other_integers_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from minimind_edge.export.graph import quantized_weights

    checkpoint = save(CONFIGS["minimind2"], tmp_path / "checkpoint")
    # the two halves of a byte in the other's place
    monkeypatch.setattr(quantized_weights, "packed_integers", lambda matrix: _swapped(matrix.integers, matrix.bits))
    with pytest.raises(ParityError):
        export_onnx(
            ExportRequest(checkpoint, tmp_path / "artifact", precision="int4", max_length=256, quantization=SETTINGS)
        )
    assert not (tmp_path / "artifact").exists()


def _swapped(integers: Any, bits: int) -> Any:
    return integers if bits == 8 else integers[:, 1::2] | integers[:, ::2] << 4


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 1e6])
def test_a_weight_that_no_integer_stands_for_is_named(value: float) -> None:
    model = MiniMindForCausalLM(CONFIGS["minimind2"]).eval()
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[3, 5] = value
    with pytest.raises(ExportError, match=r"model\.layers\.1\.mlp\.up_proj\.weight"):
        quantize_model(model, "int8", [[1]], SETTINGS)


def test_the_float_model_stays_as_it_is() -> None:
    model = MiniMindForCausalLM(CONFIGS["minimind3 moe"]).eval()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    quantized = quantize_model(model, "int4", [[1]], SETTINGS)
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())
    assert all(weight.requires_grad for weight in model.parameters())
    for name, matrix in quantized.matrices.items():
        assert torch.equal(torch.from_numpy(matrix.dequantized()), quantized.model.get_parameter(name).detach())
    floats = {name for name, _ in model.named_parameters()} - quantized.matrices.keys()
    assert floats
    assert all("norm" in name or name.endswith("mlp.gate.weight") for name in floats)
