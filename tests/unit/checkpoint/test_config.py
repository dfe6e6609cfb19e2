"""Configurations in every generation's field names, from every place they come from."""

from __future__ import annotations

import json
import math

import pytest

from minimind_edge.minimind import ConfigError, MiniMindConfig, load_checkpoint, read_checkpoint

LEGACY = {
    "dim": 64,
    "n_layers": 2,
    "n_heads": 4,
    "n_kv_heads": 1,
    "vocab_size": 50,
    "hidden_dim": None,
    "multiple_of": 64,
    "norm_eps": 1e-4,
    "max_seq_len": 777,
    "rope_theta": 5e4,
    "dropout": 0.0,
    "flash_attn": True,
    "use_moe": False,
    "num_experts_per_tok": 2,
    "n_routed_experts": 4,
    "n_shared_experts": True,
    "scoring_func": "softmax",
    "aux_loss_alpha": 0.1,
    "seq_aux": True,
    "norm_topk_prob": True,
    "model_type": "minimind",
}
# A MiniMind2 folder's config.json as upstream's converter writes it, its own training length included.
MINIMIND2 = {
    "architectures": ["MiniMindForCausalLM"],
    "auto_map": {"AutoConfig": "model_minimind.MiniMindConfig", "AutoModelForCausalLM": "model_minimind.X"},
    "aux_loss_alpha": 0.1,
    "bos_token_id": 1,
    "dropout": 0.0,
    "eos_token_id": 2,
    "flash_attn": True,
    "hidden_act": "silu",
    "hidden_size": 64,
    "inference_rope_scaling": False,
    "intermediate_size": 96,
    "max_position_embeddings": 32768,
    "max_seq_len": 8192,
    "model_type": "minimind",
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "norm_topk_prob": True,
    "num_attention_heads": 8,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 1000000.0,
    "scoring_func": "softmax",
    "seq_aux": True,
    "torch_dtype": "float16",
    "transformers_version": "4.57.1",
    "use_moe": False,
    "vocab_size": 50,
}
LLAMA = {
    "model_type": "llama",
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "attention_bias": False,
    "mlp_bias": False,
    "pretraining_tp": 1,
    "tie_word_embeddings": True,
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 8192,
}


@pytest.fixture
def load(make_state, save):
    """Load a MiniMind2 (or another kind) under a configuration; returns the model's."""

    def loaded(config, kind="minimind2", **kwargs) -> MiniMindConfig:
        return load_checkpoint(save(make_state(kind, **kwargs)), config).config

    return loaded


def test_legacy_names(load):
    config = load(LEGACY, "minimind2-legacy")
    assert (config.num_attention_heads, config.num_key_value_heads) == (4, 1)
    assert (config.rms_norm_eps, config.max_position_embeddings, config.rope_theta) == (1e-4, 777, 5e4)
    assert config.intermediate_size == 96


def test_minimind2_names_and_the_converters_leftover(load):
    config = load(MINIMIND2)
    assert (config.max_position_embeddings, config.num_attention_heads) == (32768, 8)


def test_minimind3_names(load):
    config = load(
        {
            "head_dim": 24,
            "num_experts": 4,
            "num_experts_per_tok": 3,
            "moe_intermediate_size": 96,
            "intermediate_size": 128,
            "router_aux_loss_coef": 5e-4,
            "norm_topk_prob": False,
        },
        "minimind3",
        moe=True,
    )
    assert (config.n_routed_experts, config.num_experts_per_tok, config.norm_topk_prob) == (4, 3, False)
    assert (config.moe_intermediate_size, config.intermediate_size, config.aux_loss_alpha) == (96, 128, 5e-4)


def test_a_moe_config_may_call_its_experts_width_the_dense_one(load):
    assert load({"hidden_dim": 96}, "v1", moe=True).moe_intermediate_size == 96
    with pytest.raises(ConfigError, match=r"moe_intermediate_size 128 contradicts the tensors, which say 96"):
        load({"hidden_dim": 128}, "v1", moe=True)


def test_given_in_a_file(load, tmp_path):
    file = tmp_path / "given.json"
    file.write_text(json.dumps({"norm_eps": 1e-3}))
    assert load(file).rms_norm_eps == 1e-3
    assert load(str(file)).rms_norm_eps == 1e-3


def test_namesake_beside_the_weights(load, tmp_path):
    (tmp_path / "full_sft_64.json").write_text(json.dumps({"n_heads": 4}))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "minimind", "num_attention_heads": 16}))
    assert load(None).num_attention_heads == 4


def test_config_json_beside_the_weights(load, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(MINIMIND2 | {"rms_norm_eps": 1e-3}))
    assert load(None).rms_norm_eps == 1e-3
    assert load({"norm_eps": 1e-4}).rms_norm_eps == 1e-4


@pytest.mark.parametrize("text", ["not json", "[]", json.dumps({"model_type": "bert"}), json.dumps({"editor": "dark"})])
def test_a_strangers_config_json_is_left_alone(text, load, tmp_path):
    (tmp_path / "config.json").write_text(text)
    assert load(None).num_attention_heads == 8


def test_a_folders_config_json_is_not_left_alone(make_state, save, tmp_path):
    save(make_state(), "folder/a.pth")
    (tmp_path / "folder" / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ConfigError, match=r"config.json: model_type 'bert' is not supported; .* llama, qwen3"):
        load_checkpoint(tmp_path / "folder")


def test_where_a_field_was_given_is_said(make_state, save, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"hidden_size": 64, "num_hidden_layers": 3}))
    file = save(make_state())
    with pytest.raises(ConfigError, match=r"config.json: num_hidden_layers 3 contradicts the tensors, which say 2"):
        load_checkpoint(file)
    report = read_checkpoint(file, {"num_hidden_layers": 2, "n_heads": 4}).report
    assert report.inferred["num_attention_heads"] == 4


@pytest.mark.parametrize(
    ("kind", "moe", "config", "message"),
    [
        ("minimind2", False, {"dim": 128}, "hidden_size 128 contradicts the tensors, which say 64 .model.embed_tokens"),
        ("minimind2", False, {"vocab_size": 6400}, "vocab_size 6400 contradicts the tensors, which say 50"),
        ("minimind2", False, {"hidden_dim": 64}, "intermediate_size 64 contradicts the tensors, which say 96"),
        ("minimind2", False, {"use_moe": True}, "use_moe True contradicts the tensors, which say False"),
        ("minimind2", False, {"model_type": "qwen3"}, "qk_norm True contradicts the tensors, which say False"),
        ("minimind3", False, {"model_type": "llama"}, "qk_norm False contradicts the tensors, which say True"),
        ("minimind3", True, {"model_type": "qwen3"}, "use_moe False contradicts the tensors, which say True"),
        ("minimind2", True, {"n_routed_experts": 8}, "n_routed_experts 8 contradicts the tensors, which say 4"),
        ("minimind2", True, {"n_shared_experts": 2}, "n_shared_experts 2 contradicts the tensors, which say 1"),
        ("minimind2", True, {"n_shared_experts": False}, "n_shared_experts 0 contradicts the tensors, which say 1"),
        ("minimind2", True, {"num_experts_per_tok": 5}, "num_experts_per_tok 5 exceeds n_routed_experts 4"),
    ],
)
def test_contradictions_name_both_values(kind, moe, config, message, load):
    with pytest.raises(ConfigError, match=message):
        load(config, kind, moe=moe)


def test_dense_models_do_not_care_about_experts(load):
    assert not load({"n_routed_experts": 99, "moe_intermediate_size": 1, "num_experts_per_tok": 100}).use_moe


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"hiden_size": 64}, "unknown key 'hiden_size'; did you mean 'hidden_size'"),
        ({"n_head": 8}, "unknown key 'n_head'; did you mean 'n_heads'"),
        ({"xyzzy": 1}, "unknown key 'xyzzy'; see MiniMindConfig"),
        ({"hidden_size": "64"}, "hidden_size must be an integer of at least 1, found '64'"),
        ({"n_layers": 0}, "n_layers must be an integer of at least 1, found 0"),
        ({"n_layers": True}, "n_layers must be an integer of at least 1, found True"),
        ({"dim": 64.0}, "dim must be an integer of at least 1, found 64.0"),
        ({"norm_eps": 0}, "norm_eps must be a positive number, found 0"),
        ({"norm_eps": math.nan}, "norm_eps must be a positive number, found nan"),
        ({"norm_eps": math.inf}, "norm_eps must be a positive number, found inf"),
        ({"dropout": -0.1}, "dropout must be a non-negative number, found -0.1"),
        ({"use_moe": 0}, "use_moe must be true or false, found 0"),
        ({"eos_token_id": [2, "x"]}, "eos_token_id must be an integer of at least 0, found 'x'"),
        ({"hidden_act": "slu"}, "hidden_act 'slu' is unknown"),
        ({"hidden_act": 3}, "hidden_act must be a string, found 3"),
        ({"dim": 64, "hidden_size": 128}, "hidden_size 128 contradicts hidden_size 64, which another key gives"),
        ({"attention_bias": True}, "attention_bias True is not supported"),
        ({"mlp_bias": True}, "mlp_bias True is not supported"),
        ({"use_sliding_window": True, "sliding_window": 4096}, "use_sliding_window True is not supported"),
        (
            {"layer_types": ["full_attention", "sliding_attention"]},
            "layer_types .*sliding_attention.* is not supported",
        ),
        ({"layer_types": 3}, "layer_types 3 is not supported"),
        ({"yarn_parameters": [1]}, r"yarn_parameters must be an object, found \[1\]"),
        ({"mlp_only_layers": [0]}, r"mlp_only_layers \[0\] is not supported"),
        ({"decoder_sparse_step": 2}, "decoder_sparse_step 2 is not supported"),
        ({"quantization_config": {"bits": 4}}, "quantization_config .* is not supported"),
        ({"scoring_func": "sigmoid"}, "scoring_func 'sigmoid' is not supported"),
        ({"model_type": "gpt2"}, "model_type 'gpt2' is not supported"),
        ({"model_type": ["llama"]}, "model_type .* is not supported"),
        ({"rope_theta": 0}, "rope_theta must be a number above 1, found 0"),
        ({"rope_theta": "1e6"}, "rope_theta must be a number above 1, found '1e6'"),
        ({"rope_theta": 1e6, "rope_parameters": {"rope_theta": 1e4}}, "rope_theta 1000000.0 contradicts 10000.0"),
        ({"rope_scaling": {"type": "longrope", "factor": 2.0}}, "rope_scaling of type 'longrope' is not supported"),
        ({"rope_scaling": {"type": ["yarn"]}}, "rope_scaling of type .*yarn.* is not supported"),
        ({"rope_parameters": {"rope_type": "llama3"}}, "rope_scaling of type 'llama3' needs factor"),
        ({"rope_parameters": {"short_factor": [1]}}, "rope_scaling of type 'default' has 'short_factor'"),
        ({"max_position_embeddings": 10**400}, "max_position_embeddings must be an integer of at most 2147483647"),
        ({"norm_eps": 10**400}, "norm_eps must be a positive number"),
        ({"rope_theta": 10**400}, "rope_theta must be a number above 1"),
        ({"rope_scaling": {"type": "yarn", "factor": 10**400}}, "factor must be a positive number"),
        ({"rope_scaling": {"type": "yarn", "beta_fast": 1e-300}}, "beta_fast must be from 1e-06 to 1e.12"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor .* not supported"),
        (
            {"rope_scaling": {"type": "yarn", "factor": 2.0, "truncate": "no"}},
            "truncate must be true or false, found 'no'",
        ),
        ({"rope_scaling": "yarn"}, "rope_scaling must be an object, found 'yarn'"),
        ({"rope_scaling": {"type": "yarn", "factor": 0}}, "factor must be a positive number, found 0"),
        ({"inference_rope_scaling": "yes"}, "inference_rope_scaling must be true or false, found 'yes'"),
    ],
)
def test_refused(config, message, load):
    with pytest.raises(ConfigError, match=message) as caught:
        load(config)
    assert caught.value.exit_code == 3
    assert str(caught.value).startswith("config: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[1]", '"text"', "\ufffe"])
def test_a_broken_file_is_named(text, load, tmp_path):
    file = tmp_path / "given.json"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"given\.json: "):
        load(file)
    with pytest.raises(ConfigError, match=r"missing\.json: cannot be read"):
        load(tmp_path / "missing.json")


class TestRope:
    YARN = {  # noqa: RUF012
        "beta_fast": 32,
        "beta_slow": 1,
        "factor": 8,
        "original_max_position_embeddings": 1024,
        "type": "yarn",
    }

    def test_minimind_yarn(self, load):
        config = load({"inference_rope_scaling": True})
        assert config.rope_scaling["factor"] == 16
        given = load({"rope_scaling": self.YARN})
        assert given.inference_rope_scaling
        assert (given.rope_scaling["factor"], given.rope_scaling["original_max_position_embeddings"]) == (8, 1024)
        assert given.rope_scaling["attention_factor"] == 1.0

    def test_switched_off_it_keeps_its_parameters(self, load):
        config = load({"rope_scaling": self.YARN, "inference_rope_scaling": False})
        assert config.rope_scaling is None
        assert config.rope_scaling_parameters["factor"] == 8

    def test_transformers_5(self, load):
        config = load({"rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}})
        assert (config.rope_theta, config.inference_rope_scaling) == (5e5, False)
        assert load({"rope_parameters": {"rope_type": "yarn", "factor": 4}}).rope_scaling["factor"] == 4

    def test_yarn_in_hugging_faces_convention_scales_attention(self, load):
        yarn = {"rope_type": "yarn", "rope_theta": 1e6, "factor": 16.0, "original_max_position_embeddings": 512}
        config = load(LLAMA | {"rope_parameters": yarn})
        assert config.rope_scaling["attention_factor"] == pytest.approx(0.1 * math.log(16) + 1)

    @pytest.mark.parametrize(
        ("yarn", "message"),
        [
            ({"original_max_position_embeddings": 512}, "needs factor"),
            ({"factor": "4", "original_max_position_embeddings": 512}, "factor must be a positive number, found '4'"),
            ({"factor": 4.0, "mscale": "1"}, "mscale must be a number, found '1'"),
        ],
    )
    def test_what_transformers_refuses_too(self, yarn, message, load):
        with pytest.raises(ConfigError, match=message):
            load(LLAMA | {"rope_parameters": {"rope_type": "yarn"} | yarn})

    @pytest.mark.parametrize("kind", ["longrope", "proportional", "su", "mrope"])
    def test_what_is_refused_is_named_and_never_to_be_deleted(self, kind, load):
        with pytest.raises(ConfigError, match=f"type '{kind}' is not supported .*--model FILE.py:CLASS") as caught:
            load(LLAMA | {"rope_parameters": {"rope_type": kind, "factor": 2.0}})
        assert "leave" not in str(caught.value)

    def test_upstreams_october_formula_is_told_by_its_parameters(self, load):
        """What the converter of 2025-10 wrote: factor and beta_fast 4, and no attention factor."""
        october = {
            "beta_fast": 4,
            "beta_slow": 1,
            "factor": 4,
            "original_max_position_embeddings": 2048,
            "type": "yarn",
        }
        assert load(MINIMIND2 | {"rope_scaling": october}).rope_scaling_parameters["type"] == "yarn-2025-10"
        december = october | {"beta_fast": 32, "factor": 16, "attention_factor": 1.0}
        assert load(MINIMIND2 | {"rope_scaling": december}).rope_scaling_parameters["type"] == "yarn"


class TestHuggingFace:
    def test_llamas_defaults_where_its_config_is_silent(self, make_state, save):
        config = {"model_type": "llama", "num_attention_heads": 8}
        report = read_checkpoint(save(make_state()), config).report
        assert report.assumed["rope_theta"] == 1e4
        assert report.assumed["rms_norm_eps"] == 1e-6
        assert report.assumed["max_position_embeddings"] == 2048

    def test_qwen3_moes_defaults_where_its_config_is_silent(self, load):
        config = load({"model_type": "qwen3_moe", "num_experts_per_tok": 2}, "minimind3", moe=True)
        assert not config.norm_topk_prob
        widths = {"model_type": "qwen3_moe", "num_experts_per_tok": 2, "intermediate_size": 7}
        config = load(widths, "minimind3", moe=True)
        assert (config.moe_intermediate_size, config.intermediate_size) == (96, 7)

    def test_tying_is_the_configs_word(self, make_state, save):
        state = make_state()
        state["lm_head.weight"][0, 0] += 1
        file = save(state)
        assert not load_checkpoint(file).config.tie_word_embeddings
        with pytest.raises(
            ConfigError, match=r"tie_word_embeddings True contradicts .* \(lm_head.weight against model.emb"
        ):
            load_checkpoint(file, LLAMA)


@pytest.mark.parametrize("name", ["LlamaConfig", "Qwen3Config", "Qwen3MoeConfig", "PretrainedConfig"])
def test_every_key_that_transformers_writes_is_known(name):
    import transformers

    from minimind_edge.minimind.checkpoint.config_fields import translate_config

    written = getattr(transformers, name)().to_dict()
    assert translate_config(written | {"model_type": written["model_type"] or None}, "config.json") is not None


def test_every_field_of_the_config_is_known():
    import inspect

    from minimind_edge.minimind.checkpoint.config_fields import KNOWN

    fields = set(inspect.signature(MiniMindConfig.__init__).parameters) - {"self", "kwargs"}
    assert fields <= KNOWN
