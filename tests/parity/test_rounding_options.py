"""Heads of four bits and blocks of 256: what the file says, what the graph computes, and what GPTQ gains."""

from __future__ import annotations

from dataclasses import replace
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
from minimind_edge.runtime.errors import UsageError
from minimind_edge.runtime.load import load_session

SETTINGS = QuantizationSettings(rows=4, length=24, measured_rows=2, held_out_rows=2)

SMALL: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 120,
    "intermediate_size": 96,
    "max_position_embeddings": 256,
}

WIDE = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 1}

FORMS: dict[str, dict[str, Any]] = {
    "tied": {},
    "untied": {"tie_word_embeddings": False},
    "wide": WIDE,
    "wide untied": {**WIDE, "tie_word_embeddings": False},
    "wide mixture": {**WIDE, "use_moe": True, "n_routed_experts": 4, "n_shared_experts": 1},
    "384 wide": {**WIDE, "hidden_size": 384},
}


def small_model(form: str) -> MiniMindForCausalLM:
    torch.manual_seed(0)
    return MiniMindForCausalLM(MiniMindConfig(**SMALL | FORMS[form])).eval()


def attributes_of(node: onnx.NodeProto) -> dict[str, int]:
    return {attribute.name: attribute.i for attribute in node.attribute}


def stored_head(graph: onnx.ModelProto) -> np.ndarray:
    """The head's weight [V, H] by the definition of `MatMulNBits`, from the bytes of the file."""
    (node,) = (node for node in graph.graph.node if node.name == "lm_head.MatMulNBits")
    attributes = attributes_of(node)
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}
    made_of = {node.output[0]: node.input[0] for node in graph.graph.node if node.op_type == "Cast"}
    packed, scales, *zeros = (stored[made_of.get(name, name)] for name in node.input[1:] if name)

    def unpacked(array: np.ndarray) -> np.ndarray:
        parts = [array & 15, array >> 4] if attributes["bits"] == 4 else [array]
        return np.stack(parts, axis=-1).reshape(len(array), -1).astype(np.float32)

    rows, blocks = scales.reshape(attributes["N"], -1).shape
    integers = unpacked(packed.reshape(rows, -1)).reshape(rows, blocks, -1)
    points = unpacked(zeros[0].reshape(rows, -1))[:, :blocks, None] if zeros else 2 ** (attributes["bits"] - 1)
    weight: np.ndarray = (integers - points) * scales.reshape(rows, blocks, 1).astype(np.float32)
    return weight.reshape(rows, -1)[:, : attributes["K"]]


def written(model: MiniMindForCausalLM, precision: str, settings: QuantizationSettings, path: Path) -> torch.Tensor:
    """Write a rounded model's graph; check its head and its logits with float32 activations against PyTorch's."""
    quantized = quantize_model(model, precision, [[1]], settings)
    save_graph(build_graph(quantized.model, "ort", precision, 256, quantized=quantized.matrices), path)
    graph = onnx.load(path)
    head = torch.from_numpy(stored_head(graph))
    assert torch.equal(head, quantized.model.lm_head.weight.detach())
    for attribute in (each for node in graph.graph.node for each in node.attribute):
        if attribute.name == "accuracy_level":
            attribute.i = 1  # float32 activations: only the order of a sum differs from PyTorch's
    exact = path.with_name("exact.onnx")
    onnx.save(graph, exact)
    tokens = torch.randint(0, SMALL["vocab_size"], (1, 20), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = torch.nn.functional.linear(quantized.model.model(tokens)[0], head)[0].numpy()
    found = load_session(exact, device="cpu").forward(tokens.numpy())[0]
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()
    return head


@pytest.mark.parametrize("form", ["tied", "untied"])
def test_the_graph_multiplies_by_four_bits_and_looks_up_eight(form: str, tmp_path: Path) -> None:
    model = small_model(form)
    written(model, "int4", replace(SETTINGS, int4_head=True), tmp_path / "model.onnx")
    nodes = onnx.load(tmp_path / "model.onnx").graph.node
    (head,) = (node for node in nodes if node.name == "lm_head.MatMulNBits")
    (gather,) = (node for node in nodes if node.op_type == "GatherBlockQuantized")
    assert (attributes_of(head)["bits"], attributes_of(gather)["bits"]) == (4, 8)
    assert (model.lm_head.weight is model.model.embed_tokens.weight) == (form == "tied")


@pytest.mark.parametrize(
    ("form", "blocks"),
    [
        ("wide", {256}),
        ("wide untied", {128, 256}),  # an embedding of its own, which is read row by row, keeps blocks of 128
        ("wide mixture", {256}),
        ("384 wide", {128, 256}),  # the inputs of `down_proj` are 512
    ],
)
def test_int8_in_blocks_of_256(form: str, blocks: set[int], tmp_path: Path) -> None:
    written(small_model(form), "int8", replace(SETTINGS, int8_block=256), tmp_path / "model.onnx")
    found = [attributes_of(node).get("block_size") for node in onnx.load(tmp_path / "model.onnx").graph.node]
    assert {block for block in found if block} == blocks


def test_on_its_calibration_text_gptq_comes_nearer_to_the_float_logits_than_the_nearest_integers() -> None:
    model = small_model("tied")
    text = torch.randint(0, SMALL["vocab_size"], (34, 24), generator=torch.Generator().manual_seed(2))
    quantized = quantize_model(model, "int4", [[1]], replace(SETTINGS, int4_head=True), text=text).model
    rounded_to_nearest = torch.from_numpy(nearest(model.lm_head.weight.detach(), INT4).dequantized())
    tokens = text[SETTINGS.held_out_rows :]
    with torch.no_grad():
        exact, states = model(tokens).logits, quantized.model(tokens)[0]
        error = (quantized(tokens).logits - exact).square().mean()
        error_of_nearest = (torch.nn.functional.linear(states, rounded_to_nearest) - exact).square().mean()
    assert error < error_of_nearest


@pytest.mark.parametrize(
    ("precision", "settings", "kept"),
    [
        ("int4", replace(SETTINGS, int4_head=True), {"int8_share": 0.05, "head_bits": 4}),
        ("int8", replace(SETTINGS, int8_block=256), {"int8_block": 256}),
        ("int8", SETTINGS, {}),
    ],
)
def test_the_manifest_says_what_was_chosen(
    precision: str, settings: QuantizationSettings, kept: dict[str, Any], tmp_path: Path
) -> None:
    small_model("wide").save_pretrained(tmp_path / "checkpoint")
    request = ExportRequest(
        tmp_path / "checkpoint", tmp_path / "artifact", precision=precision, max_length=256, quantization=settings
    )
    result = export_onnx(request)
    assert result.parity
    (graph,) = result.manifest["graphs"]
    calibration = graph["quality"]["calibration"]
    assert {name: calibration[name] for name in calibration if name not in ("texts", "tokens")} == kept
    assert verify_artifact(tmp_path / "artifact", tmp_path / "checkpoint")


def test_a_block_that_there_is_none_of_is_refused(tmp_path: Path) -> None:
    small_model("tied").save_pretrained(tmp_path / "checkpoint")
    with pytest.raises(UsageError, match="--int8-block 512: choose 128 or 256"):
        export_onnx(
            ExportRequest(
                *(tmp_path / "checkpoint", tmp_path / "artifact"),
                precision="int8",
                quantization=replace(SETTINGS, int8_block=512),
            )
        )
    assert not (tmp_path / "artifact").exists()
