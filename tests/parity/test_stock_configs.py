"""The `config.json` of an artifact names a stock architecture: transformers' own must compute the same with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from minimind_edge.export.artifact.hf_config import generation_config, model_config, stock_model_type
from minimind_edge.minimind import MiniMindConfig, MiniMindForCausalLM

SMALL: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 96,
    "max_position_embeddings": 4096,
}
KINDS = {
    "llama": MiniMindConfig(**SMALL),
    "llama with yarn": MiniMindConfig(**SMALL, inference_rope_scaling=True),
    "llama, untied, wide heads": MiniMindConfig(**SMALL, tie_word_embeddings=False, head_dim=32),
    "qwen3": MiniMindConfig.minimind3(**SMALL, head_dim=32),
    "qwen3_moe": MiniMindConfig.minimind3(**SMALL, use_moe=True),
    "qwen3_moe, top 2": MiniMindConfig.minimind3(**SMALL, use_moe=True, num_experts_per_tok=2),
}


def _model(config: MiniMindConfig) -> MiniMindForCausalLM:
    torch.manual_seed(3)
    model = MiniMindForCausalLM(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, mean=float(parameter.dim() == 1), std=0.15)
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_transformers_own_model_computes_the_same(kind: str, tmp_path: Path) -> None:
    model = _model(KINDS[kind])
    model.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(model_config(model.config)))
    assert kind.startswith(stock_model_type(model.config))

    stock = AutoModelForCausalLM.from_pretrained(tmp_path).eval()

    assert type(stock).__module__.startswith("transformers.")
    input_ids = torch.randint(0, 96, (2, 40), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours, theirs = model(input_ids).logits, stock(input_ids).logits
    assert ours.std() > 0.1
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4 * float(theirs.abs().max()))


def test_shared_experts_have_no_stock_type(tmp_path: Path) -> None:
    model = _model(MiniMindConfig(**SMALL, use_moe=True))
    model.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(model_config(model.config)))

    reloaded = AutoModelForCausalLM.from_pretrained(tmp_path).eval()

    assert isinstance(reloaded, MiniMindForCausalLM)
    input_ids = torch.arange(20)[None]
    with torch.no_grad():
        torch.testing.assert_close(reloaded(input_ids).logits, model(input_ids).logits)


def test_a_scaling_that_transformers_lacks_has_no_stock_type() -> None:
    october = MiniMindConfig(**SMALL, rope_scaling={"type": "yarn-2025-10"})
    assert stock_model_type(october) == "minimind"
    assert MiniMindConfig.from_dict(model_config(october)).rope_scaling == october.rope_scaling
    where_the_ramps_differ = {"factor": 2.0, "original_max_position_embeddings": 2048, "beta_slow": 1e-6}
    assert stock_model_type(MiniMindConfig(**SMALL, rope_scaling=where_the_ramps_differ)) == "minimind"


def test_an_authors_generation_config_wins_and_a_derived_one_does_not(tmp_path: Path) -> None:
    config = MiniMindConfig(**SMALL)
    (tmp_path / "generation_config.json").write_text(json.dumps({"temperature": 0.3, "eos_token_id": [2, 7]}))
    own = generation_config(config, tmp_path, 128)
    assert (own["temperature"], own["eos_token_id"], own["max_length"], own["bos_token_id"]) == (0.3, [2, 7], 128, 1)
    assert "top_k" not in own
    (tmp_path / "generation_config.json").write_text(json.dumps({"_from_model_config": True, "eos_token_id": 9}))
    derived = generation_config(config, tmp_path, 128)
    assert (derived["temperature"], derived["eos_token_id"]) == (0.85, 2)
