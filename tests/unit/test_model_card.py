"""The README.md of an artifact, and what it says of who loads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from minimind_edge.export.artifact.loading_tools import loads_in
from minimind_edge.export.artifact.model_card import write_model_card
from minimind_edge.minimind import MiniMindConfig

DENSE = MiniMindConfig(hidden_size=64, num_hidden_layers=2, vocab_size=96)
SHARED_EXPERTS = MiniMindConfig(hidden_size=64, num_hidden_layers=2, vocab_size=96, use_moe=True)
ROUTED_EXPERTS = MiniMindConfig.minimind3(hidden_size=64, num_hidden_layers=2, vocab_size=96, use_moe=True)
WIDE_HEADS = MiniMindConfig.minimind3(hidden_size=64, num_hidden_layers=2, vocab_size=96, head_dim=32)


def test_an_int8_cache_is_not_for_optimum() -> None:
    assert loads_in(DENSE, "ort", "fp32", "int8") == ("minimind-run", "onnxruntime-genai")


@pytest.mark.parametrize(
    ("config", "target", "precision", "tools"),
    [
        (DENSE, "portable", "fp32", ("minimind-run", "onnxruntime-genai", "optimum", "transformers.js")),
        (ROUTED_EXPERTS, "portable", "int4", ("minimind-run", "onnxruntime-genai", "optimum", "transformers.js")),
        (WIDE_HEADS, "portable", "fp32", ("minimind-run", "onnxruntime-genai", "transformers.js")),
        (DENSE, "ort", "fp32", ("minimind-run", "onnxruntime-genai", "optimum")),
        (DENSE, "ort", "fp16", ("minimind-run", "onnxruntime-genai")),
        (SHARED_EXPERTS, "portable", "fp32", ("minimind-run", "onnxruntime-genai")),
        (SHARED_EXPERTS, "tensorrt", "int8", ("minimind-export engine", "minimind-run")),
        (DENSE, "tensorrt", "bf16", ("minimind-export engine",)),
    ],
)
def test_hugging_faces_tools_need_a_stock_type(config: Any, target: str, precision: str, tools: Any) -> None:
    assert loads_in(config, target, precision) == tools


def card_of(folder: Path, config: MiniMindConfig, target: str, *, is_chat: bool = True) -> str:
    graph = {
        "file": "onnx/model_fp16.onnx",
        "target": target,
        "precision": "fp16",
        "bytes": 12_345_678,
        "max_length": 8192,
        "parity": {"greedy": {"equal": 63, "total": 64}, "logits": {"mean_kl": 2e-6}},
    }
    manifest = {
        "checkpoint": {"file": "full_sft_64.pth", "sha256": "0123456789abcdef"},
        "architecture": {"parameters": {"total": 2_750_000, "active": 1_250_000}},
        "tool": {"version": "0.1.0"},
        "graphs": [graph],
    }
    write_model_card(folder, "my-model", config, manifest, is_chat=is_chat)
    return (folder / "README.md").read_text(encoding="utf-8")


def test_it_says_what_is_in_the_folder_and_how_near_it_is_to_pytorch(tmp_path: Path) -> None:
    card = card_of(tmp_path, SHARED_EXPERTS, "portable")
    assert card.startswith("---\npipeline_tag: text-generation\n")
    assert "# MiniMind2 MoE, 2.8M parameters, 1.2M of them active" in card
    assert (
        "| `onnx/model_fp16.onnx` | portable | fp16 | 12.3 MB | greedy 63/64, mean KL 2.0e-06 nats "
        "| minimind-run, onnxruntime-genai |"
    ) in card


def test_its_examples_name_the_folder_the_graph_and_its_type(tmp_path: Path) -> None:
    card = card_of(tmp_path, DENSE, "portable")
    assert 'ORTModelForCausalLM.from_pretrained("my-model", subfolder="onnx", file_name="model_fp16.onnx")' in card
    assert "pipeline('text-generation', './my-model', { dtype: 'fp16' })" in card
    assert "<" not in card.split("---", 2)[2]
    assert "embed_size_per_head" not in card
    assert "model.embed_size_per_head = model.config.head_dim\ntok" in card_of(tmp_path, WIDE_HEADS, "portable")
    assert 'model_type="llama"' in card_of(tmp_path, SHARED_EXPERTS, "portable")


def test_a_graph_that_transformers_js_cannot_run_says_so(tmp_path: Path) -> None:
    card = card_of(tmp_path, DENSE, "ort")
    assert "Not by transformers.js" in card
    assert "```js" not in card


def test_without_a_chat_template_there_is_nothing_to_show(tmp_path: Path) -> None:
    assert "```" not in card_of(tmp_path, DENSE, "portable", is_chat=False)


def test_a_file_with_another_name_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "before").write_text("kept")
    (tmp_path / "README.md").hardlink_to(tmp_path / "before")
    card_of(tmp_path, DENSE, "ort")
    assert (tmp_path / "before").read_text() == "kept"
