"""Each generation's names and shapes become the right configuration, and the report says what was assumed."""

from __future__ import annotations

import pytest
import torch

from minimind_edge.minimind import CheckpointError, ConfigError, MiniMindConfig, load_checkpoint, read_checkpoint

GENERATIONS = {
    # kind: (heads, kv heads, head_dim, theta, eps, context)
    "v1": (16, 8, 4, 1e4, 1e-5, 512),
    "minimind2-legacy": (8, 2, 8, 1e6, 1e-5, 8192),
    "minimind2": (8, 2, 8, 1e6, 1e-5, 32768),
    "minimind3": (4, 2, 24, 1e6, 1e-6, 32768),
}
kinds = pytest.mark.parametrize("kind", GENERATIONS)


@kinds
def test_dense(kind, make_state, save):
    loaded = read_checkpoint(save(make_state(kind)))
    config = loaded.model.config
    found = (config.num_attention_heads, config.num_key_value_heads, config.head_dim)
    assert (*found, config.rope_theta, config.rms_norm_eps, config.max_position_embeddings) == GENERATIONS[kind]
    assert (config.hidden_size, config.vocab_size, config.num_hidden_layers) == (64, 50, 2)
    assert (config.intermediate_size, config.use_moe, config.tie_word_embeddings) == (96, False, True)
    assert loaded.report.generation == kind
    assert config.generation == ("minimind3" if kind == "minimind3" else "minimind2")


@kinds
def test_moe(kind, make_state, save):
    config = load_checkpoint(save(make_state(kind, moe=True))).config
    assert config.use_moe
    assert (config.n_routed_experts, config.moe_intermediate_size, config.intermediate_size) == (4, 96, 96)
    assert (config.n_shared_experts, config.num_experts_per_tok) == ((0, 1) if kind == "minimind3" else (1, 2))
    assert config.norm_topk_prob


@kinds
def test_weights_are_widened_and_untouched(kind, make_state, save):
    state = make_state(kind)
    model = load_checkpoint(save(state))
    assert not model.training
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert all(parameter.requires_grad and parameter.device.type == "cpu" for parameter in model.parameters())
    down, name = ("feed_forward.w2", "layers.1.") if "output.weight" in state else ("mlp.down_proj", "model.layers.1.")
    assert torch.equal(model.model.layers[1].mlp.down_proj.weight, state[f"{name}{down}.weight"].float())
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_legacy_gate_and_up_are_not_swapped(make_state, save):
    state = make_state("v1", moe=True)
    mlp = load_checkpoint(save(state)).model.layers[0].mlp
    prefix = "layers.0.feed_forward."
    for module, name in ((mlp.experts[3], "experts.3"), (mlp.shared_experts[0], "shared_experts")):
        assert torch.equal(module.gate_proj.weight, state[f"{prefix}{name}.w1.weight"].float())
        assert torch.equal(module.down_proj.weight, state[f"{prefix}{name}.w2.weight"].float())
        assert torch.equal(module.up_proj.weight, state[f"{prefix}{name}.w3.weight"].float())
    assert torch.equal(mlp.gate.weight, state[f"{prefix}gate.weight"].float())


def test_legacy_rows_are_permuted_per_head(make_state, save):
    state = make_state("minimind2-legacy")
    attention = load_checkpoint(save(state)).model.layers[0].self_attn
    # Eight heads of eight rows; within a head the even rows come first.
    order = [8 * head + row for head in range(8) for row in (0, 2, 4, 6, 1, 3, 5, 7)]
    assert torch.equal(attention.q_proj.weight, state["layers.0.attention.wq.weight"][order].float())
    assert torch.equal(attention.k_proj.weight, state["layers.0.attention.wk.weight"][order[:16]].float())
    assert torch.equal(attention.v_proj.weight, state["layers.0.attention.wv.weight"].float())


def test_inferred_and_assumed_are_told_apart(make_state, save):
    report = read_checkpoint(save(make_state())).report
    assert report.inferred["hidden_size"] == 64
    assert report.inferred["num_hidden_layers"] == 2
    assert report.assumed["num_attention_heads"] == 8
    assert report.assumed["rope_theta"] == 1e6
    assert not report.given
    assert not report.inferred.keys() & report.assumed.keys()
    norms_tell = read_checkpoint(save(make_state("minimind3"))).report
    assert norms_tell.inferred["num_attention_heads"] == 4
    assert "num_attention_heads" not in norms_tell.assumed


def test_report_lines(make_state, save):
    file = save(make_state())
    said: list[str] = []
    load_checkpoint(file, {"norm_eps": 1e-6}, report=said.append)
    first, inferred, given, assumed, code, tokenizer = said
    assert str(file) in first
    assert "minimind2" in first
    assert inferred.startswith("inferred ")
    assert "hidden_size 64" in inferred
    assert given.split() == ["given", "rms_norm_eps", "1e-06"]
    assert assumed.startswith("assumed ")
    assert "num_attention_heads 8" in assumed
    assert code.startswith("code       stock minimind2; ")
    assert tokenizer == "tokenizer  none next to the checkpoint"


def test_untied_head_is_inferred(make_state, save):
    state = make_state("minimind3")
    state["lm_head.weight"][3, 5] += 1
    model = load_checkpoint(save(state))
    assert not model.config.tie_word_embeddings
    assert torch.equal(model.lm_head.weight, state["lm_head.weight"].float())


def test_missing_head_is_tied(make_state, save):
    state = make_state()
    del state["lm_head.weight"]
    model = load_checkpoint(save(state))
    assert model.config.tie_word_embeddings
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_equal_head_stays_its_own_where_asked(make_state, save):
    model = load_checkpoint(save(make_state()), {"tie_word_embeddings": False})
    assert not model.config.tie_word_embeddings
    assert model.lm_head.weight is not model.model.embed_tokens.weight


@pytest.mark.parametrize(
    ("config", "layout"),
    [
        ({"num_attention_heads": 4}, (4, 1, 16)),
        ({"n_heads": 16}, (16, 4, 4)),
        ({"num_key_value_heads": 4}, (16, 4, 4)),
        ({"head_dim": 16}, (4, 1, 16)),
    ],
)
def test_one_head_field_settles_the_others(config, layout, make_state, save):
    loaded = read_checkpoint(save(make_state()), config)
    found = loaded.model.config
    assert (found.num_attention_heads, found.num_key_value_heads, found.head_dim) == layout
    assert not {"num_attention_heads", "num_key_value_heads", "head_dim"} & loaded.report.assumed.keys()


def test_legacy_heads_can_be_given(make_state, save):
    model = load_checkpoint(save(make_state("v1")), {"n_heads": 8, "n_kv_heads": 4})
    assert (model.config.num_attention_heads, model.config.head_dim, model.config.rope_theta) == (8, 8, 1e4)


def test_theta_tells_legacy_from_v1_with_the_same_shapes(make_state, save):
    loaded = read_checkpoint(save(make_state("v1")), {"rope_theta": 1e6})
    assert loaded.report.generation == "minimind2-legacy"
    assert (loaded.model.config.num_attention_heads, loaded.model.config.num_key_value_heads) == (8, 4)


def test_legacy_with_other_shapes_needs_a_config(make_state, save):
    state = make_state("v1")
    for name in [name for name in state if ".wk." in name or ".wv." in name]:
        state[name] = torch.cat((state[name], state[name]))  # as many key heads as query heads
    file = save(state)
    with pytest.raises(ConfigError, match=r"wk has 64 rows of width 64.*n_heads and rope_theta"):
        load_checkpoint(file)
    config = load_checkpoint(file, {"n_heads": 4, "rope_theta": 10000}).config
    assert (config.num_attention_heads, config.num_key_value_heads, config.rope_theta) == (4, 4, 1e4)


def test_assumed_heads_that_do_not_fit(make_state, save):
    state = make_state()
    for name in [name for name in state if ".k_proj." in name or ".v_proj." in name]:
        state[name] = state[name][:12]
    with pytest.raises(
        CheckpointError, match=r"8 do not fit q_proj's 64 and k_proj's 12 rows; give num_attention_heads"
    ):
        load_checkpoint(save(state))


@pytest.mark.parametrize(
    "config",
    [
        {"num_attention_heads": 7},
        {"num_attention_heads": 128},
        {"num_attention_heads": 8, "num_key_value_heads": 4},
        {"head_dim": 12},
    ],
)
def test_heads_that_contradict_the_rows(config, make_state, save):
    with pytest.raises(ConfigError, match=r"contradicts the tensors, where q_proj has 64 rows and k_proj 16"):
        load_checkpoint(save(make_state()), config)


def test_head_dim_against_the_norm(make_state, save):
    with pytest.raises(ConfigError, match=r"head_dim 32 contradicts the tensors, which say 24 \(.*q_norm"):
        load_checkpoint(save(make_state("minimind3")), {"head_dim": 32})


def test_moe_on_demand(make_state, save):
    dense, moe = save(make_state(), "dense.pth"), save(make_state(moe=True), "moe.pth")
    with pytest.raises(CheckpointError, match=r"dense.pth: asked for a mixture of experts, but .* dense"):
        load_checkpoint(dense, moe=True)
    with pytest.raises(CheckpointError, match=r"moe.pth: asked for a dense model, but .* mixture of experts"):
        load_checkpoint(moe, moe=False)
    assert load_checkpoint(moe, moe=True).config.use_moe
    assert not load_checkpoint(dense, moe=False).config.use_moe


def test_full_config_is_taken_at_its_word(make_state, save):
    state = make_state()
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 50, "intermediate_size": 96}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 1}
    settings = {"rms_norm_eps": 1e-4, "rope_theta": 5e4, "inference_rope_scaling": True, "eos_token_id": [2, 5]}
    wanted = MiniMindConfig(**sizes, **heads, **settings)
    loaded = read_checkpoint(save(state), wanted)
    assert loaded.model.config.to_dict() | {"dtype": None} == wanted.to_dict() | {"dtype": None}
    assert not loaded.report.assumed
    with pytest.raises(ConfigError, match="hidden_size 512 contradicts the tensors, which say 64"):
        load_checkpoint(save(state), MiniMindConfig())
