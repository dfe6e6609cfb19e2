"""The closed-form parameter counts against the real model's tensors."""

from __future__ import annotations

import json

import pytest
import torch

from minimind_edge.export.artifact.architecture import describe_architecture
from minimind_edge.minimind import MiniMindConfig, MiniMindForCausalLM

TINY = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 96}

CONFIGS = {
    "dense": MiniMindConfig(**TINY),
    "untied": MiniMindConfig(**TINY, tie_word_embeddings=False),
    "wide heads": MiniMindConfig.minimind3(**TINY, head_dim=32),
    "moe": MiniMindConfig(**TINY, use_moe=True, n_routed_experts=5, n_shared_experts=2, num_experts_per_tok=2),
    "moe without shared": MiniMindConfig.minimind3(**TINY, use_moe=True, moe_intermediate_size=80),
    "moe of another width": MiniMindConfig(**TINY, use_moe=True, moe_intermediate_size=40, intermediate_size=72),
}


def model_of(config: MiniMindConfig) -> MiniMindForCausalLM:
    with torch.device("meta"):
        return MiniMindForCausalLM(config)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_total_is_the_number_of_distinct_parameters(config):
    assert describe_architecture(config)["parameters"]["total"] == sum(p.numel() for p in model_of(config).parameters())


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_active_leaves_out_the_experts_that_a_token_does_not_meet(config):
    idle = range(config.num_experts_per_tok, config.n_routed_experts)
    active = sum(
        parameter.numel()
        for name, parameter in model_of(config).named_parameters()
        if not any(f".mlp.experts.{expert}." in name for expert in idle)
    )
    assert describe_architecture(config)["parameters"]["active"] == active


def test_dense_numbers_by_hand():
    config = MiniMindConfig(
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=10,
        vocab_size=16,
    )
    # 16*8 embedding; 8*8 q and o each, 8*4 k and v each; 3*8*10 feed-forward; 3 norms of 8
    assert describe_architecture(config)["parameters"] == {"total": 584, "active": 584}


@pytest.mark.parametrize(
    ("config", "millions"),
    [
        (MiniMindConfig(), 26),
        (MiniMindConfig(hidden_size=768, num_hidden_layers=16), 104),
        (MiniMindConfig(hidden_size=640, use_moe=True), 145),
        (MiniMindConfig.minimind3(), 64),
        (MiniMindConfig.minimind3(use_moe=True), 198),
    ],
)
def test_published_sizes(config, millions):
    assert round(describe_architecture(config)["parameters"]["total"] / 1e6) == millions


def test_everything_is_json_and_says_what_is_not_there():
    dense = describe_architecture(CONFIGS["dense"])
    assert json.loads(json.dumps(dense)) == dense
    assert dense["moe"] is None
    assert dense["rope"] == {"theta": 1e6, "yarn": None}


def test_moe_and_yarn_are_spelled_out():
    described = describe_architecture(MiniMindConfig(**TINY, use_moe=True, inference_rope_scaling=True))
    assert described["moe"] == {
        "n_routed_experts": 4,
        "n_shared_experts": 1,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 128,
        "normalizes_expert_weights": True,
    }
    assert described["rope"]["yarn"]["factor"] == 16.0
    assert json.loads(json.dumps(described)) == described
