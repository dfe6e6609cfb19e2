"""A head of four bits: what the file says, what the graph computes, and what rounding by GPTQ gains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from minimind_edge.export import ExportRequest, export_onnx, verify_artifact
from minimind_edge.export.graph import build_graph, save_graph
from minimind_edge.export.quantization import QuantizationSettings
from minimind_edge.export.quantization.formats import INT4
from minimind_edge.export.quantization.quantize import quantize_model
from minimind_edge.export.quantization.rounding import nearest
from minimind_edge.minimind import MiniMindConfig, MiniMindForCausalLM
from minimind_edge.runtime.load import load_session

SETTINGS = QuantizationSettings(rows=4, length=24, measured_rows=2, held_out_rows=2, int4_head=True)

SMALL: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 120,
    "intermediate_size": 96,
    "max_position_embeddings": 256,
}

FORMS: dict[str, dict[str, Any]] = {"tied": {}, "untied": {"tie_word_embeddings": False}}


def small_model(form: str) -> MiniMindForCausalLM:
    torch.manual_seed(0)
    return MiniMindForCausalLM(MiniMindConfig(**SMALL, **FORMS[form])).eval()


def stored_head(graph: onnx.ModelProto) -> np.ndarray:
    """The head's weight [V, H] by the definition of `MatMulNBits`, from the bytes of the file."""
    (node,) = (node for node in graph.graph.node if node.name.startswith("lm_head"))
    assert node.op_type == "MatMulNBits"
    attributes = {attribute.name: attribute.i for attribute in node.attribute}
    assert attributes["bits"] == 4
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}
    made_of = {node.output[0]: node.input[0] for node in graph.graph.node if node.op_type == "Cast"}
    packed, scales, zeros = (stored[made_of.get(name, name)] for name in node.input[1:4])

    def nibbles(array: np.ndarray) -> np.ndarray:
        return np.stack([array & 15, array >> 4], axis=-1).reshape(len(array), -1).astype(np.float32)

    rows, blocks = scales.reshape(attributes["N"], -1).shape
    integers = nibbles(packed.reshape(rows, -1)).reshape(rows, blocks, -1)
    points = nibbles(zeros.reshape(rows, -1))[:, :blocks, None]
    weight: np.ndarray = (integers - points) * scales.reshape(rows, blocks, 1).astype(np.float32)
    return weight.reshape(rows, -1)[:, : attributes["K"]]


@pytest.mark.parametrize("form", FORMS)
def test_the_graph_multiplies_by_four_bits_and_looks_up_eight(form: str, tmp_path: Path) -> None:
    model = small_model(form)
    quantized = quantize_model(model, "int4", [[1]], SETTINGS)
    path = tmp_path / "model.onnx"
    save_graph(build_graph(quantized.model, "ort", "int4", 256, quantized=quantized.matrices), path)
    graph = onnx.load(path)
    gather = next(node for node in graph.graph.node if node.op_type == "GatherBlockQuantized")
    assert {attribute.name: attribute.i for attribute in gather.attribute}["bits"] == 8
    head = torch.from_numpy(stored_head(graph))
    assert torch.equal(head, quantized.model.lm_head.weight.detach())
    assert (model.lm_head.weight is model.model.embed_tokens.weight) == (form == "tied")

    for attribute in (each for node in graph.graph.node for each in node.attribute):
        if attribute.name == "accuracy_level":
            attribute.i = 1  # float32 activations: only the order of a sum differs from PyTorch's
    onnx.save(graph, path)
    tokens = torch.randint(0, SMALL["vocab_size"], (1, 20), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = torch.nn.functional.linear(quantized.model.model(tokens)[0], head)[0].numpy()
    found = load_session(path, device="cpu").forward(tokens.numpy())[0]
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()


def test_gptq_comes_nearer_to_the_float_logits_than_the_nearest_integers() -> None:
    model = small_model("tied")
    quantized = quantize_model(model, "int4", [[1]], SETTINGS).model
    rounded_to_nearest = torch.from_numpy(nearest(model.lm_head.weight.detach(), INT4).dequantized())
    tokens = torch.randint(0, SMALL["vocab_size"], (8, 24), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        exact, states = model(tokens).logits, quantized.model(tokens)[0]
        error = (quantized(tokens).logits - exact).square().mean()
        error_of_nearest = (torch.nn.functional.linear(states, rounded_to_nearest) - exact).square().mean()
    assert error < error_of_nearest


def test_an_export_of_it_is_smaller_to_read_and_says_so(tmp_path: Path) -> None:
    small_model("tied").save_pretrained(tmp_path / "checkpoint")
    request = ExportRequest(
        tmp_path / "checkpoint", tmp_path / "artifact", precision="int4", max_length=256, quantization=SETTINGS
    )
    result = export_onnx(request)
    assert result.parity
    (graph,) = result.manifest["graphs"]
    assert graph["quality"]["calibration"]["head_bits"] == 4
    assert graph["quality"]["mean_kl"] < 0.02
    assert verify_artifact(tmp_path / "artifact", tmp_path / "checkpoint")
