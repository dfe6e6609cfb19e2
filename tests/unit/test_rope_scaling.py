"""Every scaling of RoPE against transformers' `ROPE_INIT_FUNCTIONS`, and upstream's formula of October 2025."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from minimind_edge.minimind import ConfigError, MiniMindConfig, MiniMindForCausalLM
from minimind_edge.minimind.checkpoint.config_fields import translate_config
from minimind_edge.minimind.rope import RotaryEmbedding, rope_frequencies

LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
SCALINGS = {
    "linear": {"rope_type": "linear", "factor": 4.0},
    "dynamic": {"rope_type": "dynamic", "factor": 4.0},
    "llama3": LLAMA3 | {"original_max_position_embeddings": 512},
    "llama3 wide": LLAMA3 | {"high_freq_factor": 32.0, "factor": 3.0, "original_max_position_embeddings": 1024},
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512},
    "yarn of a short context": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8192},
    "yarn whose ramp leaves the pairs": {
        "rope_type": "yarn",
        "factor": 2.0,
        "original_max_position_embeddings": 9 * 10**8,
    },
    "yarn without an original context": {"rope_type": "yarn", "factor": 4.0},
    "yarn not truncated": {
        "rope_type": "yarn",
        "factor": 40.0,
        "original_max_position_embeddings": 4096,
        "truncate": False,
    },
    "yarn with mscale": {
        "rope_type": "yarn",
        "factor": 40.0,
        "original_max_position_embeddings": 4096,
        "mscale": 1.0,
        "mscale_all_dim": 0.707,
        "beta_fast": 64,
        "beta_slow": 2,
    },
    "yarn with half of mscale": {
        "rope_type": "yarn",
        "factor": 8.0,
        "original_max_position_embeddings": 512,
        "mscale": 2.0,
    },
    "yarn with its factor": {
        "rope_type": "yarn",
        "factor": 8.0,
        "original_max_position_embeddings": 512,
        "attention_factor": 0.7,
        "mscale": 1.0,
        "mscale_all_dim": 0.5,
    },
}


def transformers_answer(theta: float, scaling: dict[str, object], head_dim: int) -> tuple[torch.Tensor, float]:
    config = LlamaConfig(
        hidden_size=8 * head_dim,
        num_attention_heads=8,
        max_position_embeddings=4096,
        rope_parameters=scaling | {"rope_theta": theta},
    )
    return ROPE_INIT_FUNCTIONS[str(scaling["rope_type"])](config, torch.device("cpu"))


@pytest.mark.parametrize("head_dim", [16, 64, 96])
@pytest.mark.parametrize("theta", [1e4, 1e6])
@pytest.mark.parametrize("name", SCALINGS)
def test_frequencies_and_factor_are_transformers(name: str, theta: float, head_dim: int) -> None:
    scaling = SCALINGS[name]
    given = {"model_type": "llama", "max_position_embeddings": 4096, "rope_parameters": scaling | {"rope_theta": theta}}
    fields = translate_config(given, "config.json").fields
    config = MiniMindConfig(
        hidden_size=8 * head_dim,
        max_position_embeddings=4096,
        rope_theta=fields["rope_theta"],
        inference_rope_scaling=fields["inference_rope_scaling"],
        rope_scaling_parameters=fields["rope_scaling_parameters"],
    )
    rotary = RotaryEmbedding(config)
    expected, factor = transformers_answer(theta, scaling, head_dim)
    torch.testing.assert_close(rotary.frequencies, expected, rtol=2e-6, atol=0)
    assert rotary.factor == pytest.approx(factor, rel=1e-6)


def test_dynamic_is_transformers_up_to_the_last_position() -> None:
    """It changes with the length past `max_position_embeddings` alone, and an artifact has no position there."""
    config = LlamaConfig(
        hidden_size=512,
        num_attention_heads=8,
        max_position_embeddings=4096,
        rope_parameters={"rope_type": "dynamic", "factor": 4.0, "rope_theta": 1e4},
    )
    ours = rope_frequencies(64, 4096, 1e4, {"type": "dynamic", "factor": 4.0})
    within, _ = ROPE_INIT_FUNCTIONS["dynamic"](config, torch.device("cpu"), seq_len=4096)
    past, _ = ROPE_INIT_FUNCTIONS["dynamic"](config, torch.device("cpu"), seq_len=4097)
    torch.testing.assert_close(ours, within, rtol=2e-6, atol=0)
    assert not torch.allclose(past, within, rtol=1e-5, atol=0)


# The angles of position 1 that upstream's own precompute_freqs_cis of commit 0323815 gives for head_dim 16, theta 1e6,
# a context of 4096 tokens and its defaults: factor 4, beta_fast 4, beta_slow 1, original context 2048.
OCTOBER_2025 = [
    0.9999999403953552,
    0.16449081897735596,
    0.027973996475338936,
    0.004832620732486248,
    0.0002500000118743628,
    4.4456985051510856e-05,
    7.905693564680405e-06,
    1.405853367941745e-06,
]


def test_yarn_of_october_2025_is_upstreams() -> None:
    found = rope_frequencies(16, 4096, 1e6, {"type": "yarn-2025-10"})
    torch.testing.assert_close(found, torch.tensor(OCTOBER_2025), rtol=1e-6, atol=0)
    assert torch.equal(rope_frequencies(16, 2048, 1e6, {"type": "yarn-2025-10"}), rope_frequencies(16, 2048, 1e6))


@pytest.mark.parametrize("kind", ["linear", "llama3"])
def test_the_switch_of_yarn_leaves_other_scalings_alone(kind: str) -> None:
    scaling = {key: value for key, value in SCALINGS[kind].items() if key != "rope_type"} | {"type": kind}
    model = MiniMindForCausalLM(
        MiniMindConfig(hidden_size=64, num_hidden_layers=1, vocab_size=32, rope_scaling=scaling)
    )
    with pytest.raises(ConfigError, match=f"of type '{kind}'"):
        model.set_rope_scaling(False)
