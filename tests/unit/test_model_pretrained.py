"""The manners of a `PreTrainedModel`: folders, the Auto classes, tying, caches."""

from __future__ import annotations

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, DynamicCache, PreTrainedModel, StaticCache

from minimind_edge.minimind import MiniMindConfig, MiniMindForCausalLM

IDS = torch.tensor([[5, 9, 3, 77, 8, 21]])
PARTS = {"input_layernorm", "post_attention_layernorm", "self_attn", "mlp"}


def test_default_construction():
    with torch.device("meta"):
        model = MiniMindForCausalLM()
    assert model.config.to_diff_dict() == MiniMindConfig().to_diff_dict()
    assert isinstance(model, PreTrainedModel)
    assert isinstance(model, torch.nn.Module)


@torch.no_grad()
def test_round_trip_through_a_folder(tiny_model, tmp_path):
    tiny_model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert type(again) is MiniMindForCausalLM
    assert again.state_dict().keys() == tiny_model.state_dict().keys()
    for name, tensor in tiny_model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    assert torch.equal(again(IDS).logits, tiny_model(IDS).logits)


def test_a_tied_head_is_stored_once(tiny_model, tmp_path):
    tiny_model.save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        stored = set(file.keys())
    tied = tiny_model.config.tie_word_embeddings
    assert ("lm_head.weight" in stored) is not tied
    assert "model.embed_tokens.weight" in stored
    again = MiniMindForCausalLM.from_pretrained(tmp_path)
    assert (again.lm_head.weight is again.model.embed_tokens.weight) is tied


@pytest.mark.parametrize("tied", [True, False])
def test_embedding_and_head_share_what_the_config_says(random_model, tied):
    model = random_model(MiniMindConfig(hidden_size=64, num_hidden_layers=1, vocab_size=32, tie_word_embeddings=tied))
    assert model.get_input_embeddings() is model.model.embed_tokens
    assert model.get_output_embeddings() is model.lm_head
    assert (model.lm_head.weight is model.model.embed_tokens.weight) is tied


def test_half_precision_survives_the_folder(random_model, tmp_path):
    config = MiniMindConfig(hidden_size=64, num_hidden_layers=1, vocab_size=32)
    random_model(config).half().save_pretrained(tmp_path)
    again = MiniMindForCausalLM.from_pretrained(tmp_path, dtype=torch.float16)
    assert {parameter.dtype for parameter in again.parameters()} == {torch.float16}
    assert again.model.rotary_emb.frequencies.dtype == torch.float32


def test_state_dict_has_the_published_names(tiny_model):
    names = set(tiny_model.state_dict())
    assert {name.split(".")[3] for name in names if name.startswith("model.layers.")} == PARTS
    assert {name for name in names if not name.startswith("model.layers.")} == {
        "model.embed_tokens.weight",
        "model.norm.weight",
        "lm_head.weight",
    }


@pytest.mark.parametrize("tiny_config", ["minimind2-moe"], indirect=True)
def test_mixture_has_the_published_names(tiny_model):
    names = {name.removeprefix("model.layers.0.mlp.") for name in tiny_model.state_dict() if ".layers.0.mlp." in name}
    projections = [f"{part}_proj.weight" for part in ("gate", "up", "down")]
    owners = [f"experts.{expert}" for expert in range(4)] + ["shared_experts.0"]
    assert names == {"gate.weight"} | {f"{owner}.{projection}" for owner in owners for projection in projections}


@pytest.mark.parametrize("kept", [1, 3, torch.tensor([0, 4])], ids=["last", "last three", "chosen"])
@torch.no_grad()
def test_logits_to_keep(tiny_model, kept):
    whole = tiny_model(IDS).logits
    expected = whole[:, kept] if isinstance(kept, torch.Tensor) else whole[:, -kept:]
    torch.testing.assert_close(tiny_model(IDS, logits_to_keep=kept).logits, expected)


@torch.no_grad()
def test_both_kinds_of_cache_hold_the_same(tiny_model):
    cache = DynamicCache()
    first = tiny_model(IDS[:, :4], past_key_values=cache, use_cache=True)
    assert first.past_key_values is cache
    assert cache.get_seq_length() == 4
    second = tiny_model(IDS[:, 4:], past_key_values=cache, use_cache=True)
    pairs = tiny_model(IDS[:, :4], use_cache=True).past_key_values
    expected = tiny_model(IDS[:, 4:], past_key_values=pairs, use_cache=True)
    assert isinstance(expected.past_key_values, tuple)
    torch.testing.assert_close(second.logits, expected.logits)
    for layer, (key, value) in zip(cache.layers, expected.past_key_values, strict=True):
        torch.testing.assert_close((layer.keys, layer.values), (key, value))


@torch.no_grad()
def test_a_cache_stays_as_it_is_without_use_cache(tiny_model):
    cache = DynamicCache()
    tiny_model(IDS[:, :4], past_key_values=cache, use_cache=True)
    output = tiny_model(IDS[:, 4:], past_key_values=cache, use_cache=False)
    assert output.past_key_values is None
    assert cache.get_seq_length() == 4


def test_other_caches_are_refused(tiny_model):
    cache = StaticCache(config=tiny_model.config, max_cache_len=8)
    with pytest.raises(TypeError, match="DynamicCache"):
        tiny_model(IDS, past_key_values=cache)


@torch.no_grad()
def test_set_rope_scaling_is_the_configs_switch(random_model):
    fields = {"hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 128}
    plain, stretched = (
        random_model(MiniMindConfig(**fields, inference_rope_scaling=scaled)) for scaled in (False, True)
    )
    before = plain(IDS).logits
    plain.set_rope_scaling(True)
    torch.testing.assert_close(plain(IDS).logits, stretched(IDS).logits)
    assert (plain(IDS).logits - before).abs().max() > 1e-3
    plain.set_rope_scaling(False)
    torch.testing.assert_close(plain(IDS).logits, before)
