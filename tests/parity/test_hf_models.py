"""The same weights in transformers' own models: an outside reference for every generation."""

from __future__ import annotations

import pytest
import torch
import transformers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from minimind_edge.minimind import MiniMindConfig, MiniMindForCausalLM

TINY = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 160}
YARN = {
    "rope_type": "yarn",
    "factor": 16.0,
    "original_max_position_embeddings": 2048,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "attention_factor": 1.0,  # left out, transformers puts in the paper's 0.1 ln(factor) + 1
}
CASES = {
    "minimind2 GQA": (LlamaForCausalLM, MiniMindConfig(**TINY, num_key_value_heads=2)),
    "minimind2 MHA": (LlamaForCausalLM, MiniMindConfig(**TINY, num_key_value_heads=4)),
    "minimind2 MQA untied": (
        LlamaForCausalLM,
        MiniMindConfig(**TINY, num_key_value_heads=1, tie_word_embeddings=False),
    ),
    "minimind2 YaRN": (LlamaForCausalLM, MiniMindConfig(**TINY, num_key_value_heads=2, inference_rope_scaling=True)),
    "minimind3": (Qwen3ForCausalLM, MiniMindConfig.minimind3(**TINY, num_key_value_heads=2, head_dim=32)),
    "minimind3 YaRN": (
        Qwen3ForCausalLM,
        MiniMindConfig.minimind3(**TINY, num_key_value_heads=2, head_dim=32, inference_rope_scaling=True),
    ),
    "minimind3 MoE": (Qwen3MoeForCausalLM, MiniMindConfig.minimind3(**TINY, num_key_value_heads=2, use_moe=True)),
    "minimind3 MoE top-2": (
        Qwen3MoeForCausalLM,
        MiniMindConfig.minimind3(**TINY, num_key_value_heads=2, use_moe=True, num_experts_per_tok=2),
    ),
}
CONFIGS = {
    LlamaForCausalLM: LlamaConfig,
    Qwen3ForCausalLM: Qwen3Config,
    Qwen3MoeForCausalLM: Qwen3MoeConfig,
}


def config_for(reference, config):
    names = (
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "vocab_size",
        "intermediate_size",
        "max_position_embeddings",
        "rms_norm_eps",
        "tie_word_embeddings",
    )
    fields = {name: getattr(config, name) for name in names}
    fields |= {"rope_theta": config.rope_theta, "rope_scaling": YARN if config.inference_rope_scaling else None}
    if transformers.__version__ >= "5":
        rope = fields.pop("rope_scaling") or {"rope_type": "default"}
        fields["rope_parameters"] = rope | {"rope_theta": fields.pop("rope_theta")}
    if reference is Qwen3MoeForCausalLM:
        fields |= {
            "num_experts": config.n_routed_experts,
            "num_experts_per_tok": config.num_experts_per_tok,
            "moe_intermediate_size": config.moe_intermediate_size,
            "norm_topk_prob": config.norm_topk_prob,
            "decoder_sparse_step": 1,
            "mlp_only_layers": [],
        }
    return CONFIGS[reference](**fields, pad_token_id=0, bos_token_id=1, eos_token_id=2, attn_implementation="eager")


def fuse_experts(weights, config):
    """transformers 5 keeps a layer's experts in two tensors: [E, 2 I, H] with gate above up, and [E, H, I]."""
    fused = {name: tensor for name, tensor in weights.items() if ".experts." not in name}
    for layer in range(config.num_hidden_layers):
        prefix = f"model.layers.{layer}.mlp.experts."
        experts = [
            [weights[f"{prefix}{expert}.{part}_proj.weight"] for part in ("gate", "up", "down")]
            for expert in range(config.n_routed_experts)
        ]
        fused[f"{prefix}gate_up_proj"] = torch.stack([torch.cat((gate, up)) for gate, up, _ in experts])
        fused[f"{prefix}down_proj"] = torch.stack([down for _, _, down in experts])
    return fused


@pytest.fixture(params=CASES)
def pair(request):
    """Our model and transformers' with the same loud weights."""
    reference, config = CASES[request.param]
    ours, theirs = MiniMindForCausalLM(config).eval(), reference(config_for(reference, config)).eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in ours.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data = 1 + 0.3 * noise if parameter.dim() == 1 else 0.15 * noise
    ours.tie_weights()
    weights = ours.state_dict()
    if any(name.endswith("gate_up_proj") for name in theirs.state_dict()):
        weights = fuse_experts(weights, config)
    theirs.load_state_dict(weights)
    theirs.tie_weights()
    return ours, theirs


@pytest.fixture
def prompt():
    return torch.randint(3, 160, (2, 40), generator=torch.Generator().manual_seed(1))


def assert_close(ours, theirs, bound=2e-5):
    """Within `bound` of the largest logit; 2e-5 is float32's rounding, summed over the layers."""
    assert ours.numel() > 0
    assert (ours - theirs).abs().max() <= bound * theirs.abs().max()


@torch.no_grad()
def test_logits(pair, prompt):
    ours, theirs = pair
    assert_close(ours(prompt).logits, theirs(prompt).logits)


@torch.no_grad()
def test_padded_rows(pair, prompt):
    ours, theirs = pair
    mask = torch.ones_like(prompt)
    mask[0, :11], mask[1, 30:] = 0, 0
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    logits = ours(prompt, attention_mask=mask).logits
    expected = theirs(prompt, attention_mask=mask, position_ids=positions).logits
    assert_close(logits[mask.bool()], expected[mask.bool()])


@torch.no_grad()
def test_cached_chunks(pair, prompt):
    ours, theirs = pair
    our_past, their_past = None, None
    for chunk in prompt.split([17, 1, 5, 1, 16], dim=1):
        ours_out = ours(chunk, past_key_values=our_past, use_cache=True)
        theirs_out = theirs(chunk, past_key_values=their_past, use_cache=True)
        our_past, their_past = ours_out.past_key_values, theirs_out.past_key_values
        assert_close(ours_out.logits, theirs_out.logits)
    for (key, value), layer in zip(our_past, their_past.layers, strict=True):
        assert_close(key, layer.keys)
        assert_close(value, layer.values)


@torch.no_grad()
def test_positions_beyond_the_original_context(pair, prompt):
    """Tokens 800 positions apart, up to 31200: far past the 2048 from which YaRN stretches."""
    ours, theirs = pair
    positions = torch.arange(40).expand(2, -1) * 800
    assert positions.max() > 30000
    ours_logits = ours(prompt, position_ids=positions).logits
    # YaRN's frequencies, computed in another order, differ by a unit in the last place: 6e-8 of 31200 radians is 2e-3.
    assert_close(ours_logits, theirs(prompt, position_ids=positions).logits, bound=2e-4)
    assert (ours_logits - ours(prompt).logits).abs().max() > 0.1


@torch.no_grad()
def test_greedy_tokens(pair, prompt):
    settings = {
        "attention_mask": torch.ones_like(prompt),
        "max_new_tokens": 24,
        "do_sample": False,
        "eos_token_id": None,
    }
    ours, theirs = (model.generate(prompt, **settings) for model in pair)
    assert len(set(ours[0, 40:].tolist())) > 4
    assert torch.equal(ours, theirs)
