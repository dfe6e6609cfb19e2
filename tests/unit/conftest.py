"""Models with random weights, loud enough that attention is not uniform and greedy decoding does not stand still."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from minimind_edge.minimind import MiniMindConfig, MiniMindForCausalLM

TINY = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 128,
}

VARIANTS: dict[str, tuple[bool, dict[str, Any]]] = {
    "minimind2": (False, {}),
    "minimind2-moe": (False, {"use_moe": True}),
    "minimind2-yarn": (False, {"inference_rope_scaling": True, "flash_attn": False}),
    "minimind3": (True, {"head_dim": 32}),
    "minimind3-moe": (True, {"use_moe": True, "tie_word_embeddings": False}),
}


def config_of(variant: str, **overrides: Any) -> MiniMindConfig:
    from minimind_edge.minimind import MiniMindConfig

    is_minimind3, fields = VARIANTS[variant]
    return (MiniMindConfig.minimind3 if is_minimind3 else MiniMindConfig)(**TINY | fields | overrides)


@pytest.fixture
def config_of_kind() -> Callable[..., MiniMindConfig]:
    """The tiny config of a kind of model by its name, fields overridden by keywords."""
    return config_of


@pytest.fixture(params=VARIANTS)
def tiny_config(request: pytest.FixtureRequest) -> MiniMindConfig:
    """A tiny config of each kind of model."""
    return config_of(request.param)


@pytest.fixture
def random_model() -> Callable[[MiniMindConfig], MiniMindForCausalLM]:
    """Build a model in eval mode with fixed random weights: matrices of std 0.15, norms around 1."""
    import torch

    from minimind_edge.minimind import MiniMindForCausalLM

    def build(config: MiniMindConfig, seed: int = 0) -> MiniMindForCausalLM:
        model = MiniMindForCausalLM(config).eval()
        generator = torch.Generator().manual_seed(seed)
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.data = 1 + 0.3 * noise if parameter.dim() == 1 else 0.15 * noise
        model.tie_weights()
        return model

    return build


@pytest.fixture
def tiny_model(tiny_config, random_model) -> MiniMindForCausalLM:
    """A tiny model of each kind."""
    return random_model(tiny_config)
