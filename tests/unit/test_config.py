"""Defaults of both generations, derived fields, errors, and the way through JSON."""

from __future__ import annotations

import json

import pytest
from transformers import AutoConfig, PretrainedConfig

from minimind_edge.minimind import ConfigError, MiniMindConfig

MINIMIND2 = {
    "hidden_size": 512,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "vocab_size": 6400,
    "intermediate_size": 1408,
    "hidden_act": "silu",
    "max_position_embeddings": 32768,
    "rope_theta": 1e6,
    "inference_rope_scaling": False,
    "dropout": 0.0,
    "rms_norm_eps": 1e-5,
    "flash_attn": True,
    "qk_norm": False,
    "tie_word_embeddings": True,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "use_moe": False,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 1408,
    "scoring_func": "softmax",
    "aux_loss_alpha": 0.01,
    "seq_aux": True,
    "norm_topk_prob": True,
}

MINIMIND3 = MINIMIND2 | {
    "hidden_size": 768,
    "num_key_value_heads": 4,
    "head_dim": 96,
    "intermediate_size": 2432,
    "moe_intermediate_size": 2432,
    "rms_norm_eps": 1e-6,
    "qk_norm": True,
    "n_shared_experts": 0,
    "num_experts_per_tok": 1,
    "aux_loss_alpha": 5e-4,
    "seq_aux": False,
}


@pytest.mark.parametrize(
    ("config", "expected", "generation"),
    [(MiniMindConfig(), MINIMIND2, "minimind2"), (MiniMindConfig.minimind3(), MINIMIND3, "minimind3")],
    ids=["minimind2", "minimind3"],
)
def test_defaults(config, expected, generation):
    assert {name: getattr(config, name) for name in expected} == expected
    assert config.generation == generation
    assert config.rope_scaling is None
    assert isinstance(config, PretrainedConfig)
    assert config.model_type == "minimind"


@pytest.mark.parametrize(("hidden_size", "width"), [(512, 1408), (640, 1728), (768, 2048), (24, 64), (25, 128)])
def test_feed_forward_width_of_minimind2(hidden_size, width):
    """64 * ceil(int(8 H / 3) / 64): 24 gives 64 as it is, 25 gives int(66.7) = 66, rounded up."""
    config = MiniMindConfig(hidden_size=hidden_size, num_attention_heads=1, num_key_value_heads=1, head_dim=2)
    assert config.intermediate_size == width


@pytest.mark.parametrize(("hidden_size", "width"), [(768, 2432), (512, 1664), (64, 256)])
def test_feed_forward_width_of_minimind3(hidden_size, width):
    """64 * ceil(pi H / 64)."""
    assert MiniMindConfig.minimind3(hidden_size=hidden_size).intermediate_size == width


def test_derived_fields_follow_what_is_given():
    config = MiniMindConfig.minimind3(hidden_size=128, num_attention_heads=4, num_key_value_heads=None, head_dim=48)
    assert config.num_key_value_heads == 4
    assert config.head_dim == 48
    assert MiniMindConfig(hidden_size=128, num_attention_heads=4).head_dim == 32
    assert MiniMindConfig(intermediate_size=100).moe_intermediate_size == 100
    assert MiniMindConfig(intermediate_size=100, moe_intermediate_size=60).moe_intermediate_size == 60


def test_yarn_is_off_until_asked_for():
    assert MiniMindConfig().rope_scaling is None
    assert MiniMindConfig(inference_rope_scaling=True).rope_scaling == {
        "type": "yarn",
        "factor": 16.0,
        "original_max_position_embeddings": 2048,
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "attention_factor": 1.0,
    }


def test_rope_scaling_parameters_turn_it_on():
    config = MiniMindConfig(rope_scaling={"type": "yarn", "factor": 4.0})
    assert config.inference_rope_scaling
    assert config.rope_scaling["factor"] == 4.0
    assert config.rope_scaling["original_max_position_embeddings"] == 2048


@pytest.mark.parametrize(
    ("fields", "normalizes"),
    [
        ({"num_experts_per_tok": 2}, True),
        ({"num_experts_per_tok": 1}, False),
        ({"num_experts_per_tok": 1, "qk_norm": True}, True),
        ({"num_experts_per_tok": 2, "norm_topk_prob": False}, False),
        ({"num_experts_per_tok": 1, "qk_norm": True, "norm_topk_prob": False}, False),
    ],
)
def test_generations_differ_in_normalising_a_single_expert(fields, normalizes):
    assert MiniMindConfig(use_moe=True, **fields).normalizes_expert_weights is normalizes


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"hidden_size": 0}, "hidden_size"),
        ({"num_hidden_layers": -1}, "num_hidden_layers"),
        ({"vocab_size": 1.5}, "vocab_size"),
        ({"num_attention_heads": True}, "num_attention_heads"),
        ({"hidden_size": "512"}, "hidden_size"),
        ({"num_key_value_heads": 0}, "num_key_value_heads"),
        ({"num_attention_heads": 8, "num_key_value_heads": 3}, "8 is not a multiple of num_key_value_heads 3"),
        ({"head_dim": 63}, "head_dim 63 is odd"),
        ({"hidden_size": 4}, "head_dim"),
        ({"rope_scaling": {"type": "longrope", "factor": 2.0}}, "'longrope'"),
        ({"rope_scaling": {"rope_type": "yarn"}}, "'rope_type'"),
        ({"use_moe": True, "num_experts_per_tok": 5}, "num_experts_per_tok 5 exceeds n_routed_experts 4"),
        ({"use_moe": True, "n_routed_experts": 0}, "n_routed_experts"),
        ({"use_moe": True, "n_shared_experts": -1}, "n_shared_experts"),
        ({"use_moe": True, "scoring_func": "sigmoid"}, "'sigmoid'"),
        ({"hidden_act": "sillu"}, "hidden_act 'sillu'"),
        ({"dropout": 1.5}, "dropout"),
        ({"rms_norm_eps": -1e-5}, "rms_norm_eps"),
        ({"rope_theta": 0.0}, "rope_theta"),
    ],
)
def test_contradictions_are_errors_of_one_line(fields, words):
    with pytest.raises(ConfigError) as raised:
        MiniMindConfig(**fields)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)
    assert raised.value.exit_code == 3


def test_dense_models_do_not_care_about_experts():
    assert not MiniMindConfig(n_routed_experts=1, num_experts_per_tok=2).use_moe


def test_round_trip_through_a_folder(tiny_config, tmp_path):
    tiny_config.save_pretrained(tmp_path)
    again = AutoConfig.from_pretrained(tmp_path)
    assert type(again) is MiniMindConfig
    assert again.to_diff_dict() == tiny_config.to_diff_dict()
    assert again.rope_scaling == tiny_config.rope_scaling
    assert again.generation == tiny_config.generation


def test_rope_scaling_parameters_survive_the_round_trip_even_when_off(tmp_path):
    config = MiniMindConfig(rope_scaling={"factor": 4.0})
    config.inference_rope_scaling = False
    config.save_pretrained(tmp_path)
    again = MiniMindConfig.from_pretrained(tmp_path)
    assert again.rope_scaling is None
    again.inference_rope_scaling = True
    assert again.rope_scaling["factor"] == 4.0


def test_saved_config_is_plain_json(tmp_path):
    MiniMindConfig(use_moe=True).save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["model_type"] == "minimind"
    assert saved["use_moe"] is True


def test_arguments_make_the_same_config_again() -> None:
    for config in (MiniMindConfig(), MiniMindConfig.minimind3(use_moe=True, inference_rope_scaling=True)):
        arguments = json.loads(json.dumps(config.arguments()))
        again = MiniMindConfig(**arguments)
        assert again.to_dict() == config.to_dict()
        assert again.arguments() == arguments
