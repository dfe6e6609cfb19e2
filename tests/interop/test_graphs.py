"""onnx's checker, Netron and polygraphy open every graph, and what they show says what it is."""

from __future__ import annotations

from typing import Any

import pytest
from interop_tools import answer, environment

from minimind_edge.export.artifact.graph_file import graph_file

PRECISIONS = {
    "portable": ("fp32", "fp16", "int8", "int4"),
    "ort": ("fp32", "fp16", "int8", "int4"),
    "tensorrt": ("fp32", "fp16", "bf16", "int8", "int4"),
}
CASES = [
    (kind, target, precision)
    for kind in ("minimind2", "minimind2-moe-tiny", "minimind3", "minimind3-moe")
    for target, precisions in PRECISIONS.items()
    for precision in precisions
]


@pytest.fixture(autouse=True)
def _has_environment() -> None:
    environment("graphs")


@pytest.mark.parametrize(("kind", "target", "precision"), CASES)
def test_names_shapes_and_descriptions_say_what_it_is(artifact: Any, kind: str, target: str, precision: str) -> None:
    found = answer("graphs", "describe.py", artifact(kind, target, precision) / graph_file(target, precision))
    netron, polygraphy = found["netron"], found["polygraphy"]
    generation = kind.partition("-")[0]
    assert netron["errors"] == []
    assert netron["producer"].startswith("minimind-edge ")
    assert netron["description"] == f"{generation} decoder with a key-value cache, target {target}, {precision}"
    assert (
        netron["metadata"].items()
        >= {
            "minimind_edge.generation": generation,
            "minimind_edge.target": target,
            "minimind_edge.precision": precision,
            "minimind_edge.max_length": "512",
            "minimind_edge.eos_token_id": "2",
        }.items()
    )
    assert netron["outputs"]["logits"].startswith("float32[batch_size,")
    assert all("batch_size" in shape for shape in netron["inputs"].values() if "past" in shape)
    assert "Name: minimind | ONNX Opset: " in polygraphy
    for name in (*netron["inputs"], *netron["outputs"]):
        assert f"{name} [dtype=" in polygraphy


@pytest.mark.parametrize("target", ["portable", "ort"])
@pytest.mark.parametrize("kind", ["minimind2", "minimind3-moe"])
def test_inputs_and_outputs_have_hugging_faces_names(artifact: Any, kind: str, target: str) -> None:
    netron = answer("graphs", "describe.py", artifact(kind, target) / graph_file(target, "fp32"))["netron"]
    inputs, outputs = netron["inputs"], netron["outputs"]
    assert inputs["input_ids"] == inputs["position_ids"] == "int64[batch_size,sequence_length]"
    assert inputs["attention_mask"] == "int64[batch_size,total_sequence_length]"
    assert outputs["logits"].startswith("float32[batch_size,")
    past, present = inputs["past_key_values.1.value"], outputs["present.1.value"]
    assert past.replace("past_sequence", "total_sequence") == present
    named = [node["name"] for node in netron["nodes"]]
    assert all(name.rpartition(".")[0] for name in named), "a node that does not say where it belongs"
    assert any(name.startswith("layers.1.") for name in named)
