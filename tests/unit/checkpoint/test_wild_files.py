"""Checkpoints as other trainers, caches and authors leave them."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from minimind_edge.minimind import AdapterError, CheckpointError, ConfigError, load_checkpoint, read_checkpoint

IDS = torch.tensor([[3, 14, 15, 9, 26]])


@torch.no_grad()
def logits(model):
    return model(IDS).logits


@pytest.fixture
def expected(make_state, save):
    return logits(load_checkpoint(save(make_state(), "reference/plain.pth")))


@pytest.mark.parametrize("key", ["model", "state_dict", "model_state_dict", "module"])
def test_trainers_wrap_their_weights(key, make_state, save, expected):
    content = {key: make_state(), "optimizer": {"state": {}}, "epoch": 3}
    assert torch.equal(logits(load_checkpoint(save(content))), expected)


def test_a_wrapped_state_may_be_wrapped_again(make_state, save, expected):
    assert torch.equal(logits(load_checkpoint(save({"model": {"module": make_state()}}))), expected)


@pytest.mark.parametrize("prefix", ["model.", "base_model.model.", "_forward_module.", "module.model.", "net."])
@pytest.mark.parametrize("kind", ["v1", "minimind2"])
def test_trainers_prefixes(kind, prefix, make_state, save):
    plain = logits(load_checkpoint(save(make_state(kind), "plain.pth")))
    state = {prefix + name: tensor for name, tensor in make_state(kind).items()}
    assert torch.equal(logits(load_checkpoint(save(state))), plain)


def test_one_shard_named_directly_means_all(make_state, tmp_path, expected):
    state = make_state()
    names = sorted(state)
    weight_map = {}
    for index in range(2):
        file = f"model-0000{index + 1}-of-00002.safetensors"
        save_file({name: state[name] for name in names[index::2]}, tmp_path / file)
        weight_map |= dict.fromkeys(names[index::2], file)
    index_file = tmp_path / "model.safetensors.index.json"
    index_file.write_text(json.dumps({"weight_map": weight_map}))
    shard = tmp_path / "model-00002-of-00002.safetensors"
    assert torch.equal(logits(load_checkpoint(shard)), expected)
    index_file.unlink()
    with pytest.raises(CheckpointError, match=r"one of 2 shards, without model\.safetensors\.index\.json"):
        load_checkpoint(shard)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"mlp_only_layers": [0]}, r"mlp_only_layers \[0\] is not supported"),
        ({"decoder_sparse_step": 2}, "decoder_sparse_step 2 is not supported"),
    ],
)
def test_dense_layers_among_experts_are_named(given, message, make_state, save, tmp_path):
    """The tensors alone would look incomplete."""
    state = {name: tensor for name, tensor in make_state("minimind3", moe=True).items() if ".0.mlp" not in name}
    save(state, "folder/model.pth")
    (tmp_path / "folder" / "config.json").write_text(json.dumps({"model_type": "qwen3_moe"} | given))
    with pytest.raises(ConfigError, match=message):
        load_checkpoint(tmp_path / "folder")


@pytest.mark.parametrize(
    ("kind", "other", "theta"), [("v1", "minimind2-legacy", "1e+06"), ("minimind2-legacy", "v1", "10000")]
)
def test_an_ambiguous_generation_names_both_and_the_option(kind, other, theta, make_state, save):
    file = save(make_state(kind))
    (note,) = read_checkpoint(file).report.notes
    assert note.startswith("warning: ")
    assert f"{kind} is assumed" in note
    assert f"If it is {other}" in note
    assert f'"rope_theta": {theta}' in note
    assert not read_checkpoint(file, {"rope_theta": 1e4}).report.notes


class TestForeignCode:
    STOCK = {"model_type": "minimind", "architectures": ["MiniMindForCausalLM"]}  # noqa: RUF012

    def notes(self, folder: Path, config: dict[str, object] | None = None) -> tuple[str, ...]:
        if config is not None:
            (folder / "config.json").write_text(json.dumps(self.STOCK | config))
        return read_checkpoint(folder).report.notes

    @pytest.fixture
    def folder(self, make_state, save):
        return save(make_state("minimind3"), "folder/model.pth").parent

    def test_a_stock_folder_says_nothing(self, folder):
        assert self.notes(folder, {}) == ()

    @pytest.mark.parametrize(
        ("config", "found"),
        [
            ({"auto_map": {"AutoModelForCausalLM": "modeling_mine.Mine"}}, "auto_map in its config"),
            ({"architectures": ["MyMiniMind"]}, "architectures 'MyMiniMind'"),
        ],
    )
    def test_a_config_that_names_code(self, config, found, folder):
        (note,) = self.notes(folder, config)
        assert found in note
        assert "was not read: stock minimind3 is assumed" in note
        assert "--model FILE.py:CLASS" in note

    @pytest.mark.parametrize("name", ["modeling_mine.py", "model_minimind.py"])
    def test_code_next_to_the_weights_is_never_run(self, name, folder, tmp_path):
        (folder / name).write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
        (note,) = self.notes(folder)
        assert name in note
        assert not (tmp_path / "ran").exists()


class TestLinks:
    def test_hugging_faces_cache(self, make_state, tmp_path, expected):
        blobs, snapshot = tmp_path / "models--a--b" / "blobs", tmp_path / "models--a--b" / "snapshots" / "1f2e"
        blobs.mkdir(parents=True)
        snapshot.mkdir(parents=True)
        save_file(make_state(), blobs / "77aa")
        (blobs / "c0ff").write_text(json.dumps({"model_type": "minimind"}))
        (snapshot / "model.safetensors").symlink_to("../../blobs/77aa")
        (snapshot / "config.json").symlink_to("../../blobs/c0ff")
        assert torch.equal(logits(load_checkpoint(snapshot)), expected)

    @pytest.mark.parametrize("linked", ["model.safetensors", "config.json"])
    def test_another_link_out_of_the_folder(self, linked, make_state, tmp_path):
        folder, elsewhere = tmp_path / "folder", tmp_path / "elsewhere"
        folder.mkdir()
        elsewhere.mkdir()
        files = {"model.safetensors": lambda file: save_file(make_state(), file)}
        files["config.json"] = lambda file: file.write_text(json.dumps({"model_type": "minimind"}))
        for name, write in files.items():
            write((elsewhere if name == linked else folder) / name)
        (folder / linked).symlink_to(elsewhere / linked)
        with pytest.raises(CheckpointError, match=rf"{linked}: links out of its folder"):
            load_checkpoint(folder)

    def test_a_link_that_the_user_names(self, make_state, save, tmp_path, expected):
        (tmp_path / "link.pth").symlink_to(save(make_state(), "elsewhere/model.pth"))
        assert torch.equal(logits(load_checkpoint(tmp_path / "link.pth")), expected)

    @pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
    def test_a_circle(self, tmp_path):
        (tmp_path / "model.safetensors").symlink_to("model.safetensors")
        with pytest.raises(CheckpointError):
            load_checkpoint(tmp_path)


HARMLESS = {
    "is_llama_config": True,
    "rope_interleaved": False,
    "transformers.js_config": {"use_external_data_format": False},
    "unsloth_fixed": True,
    "unsloth_version": "2026.1",
    "max_sequence_length": 4096,
    "use_mrope": False,
    "rotary_emb_base": 10000,
    "use_liger_kernel": True,
    "quantization": None,
    "_comment": "mine",
}


class TestHarmlessKeys:
    LLAMA = {"model_type": "llama", "num_attention_heads": 8, "rms_norm_eps": 1e-5, "rope_theta": 1e6}  # noqa: RUF012

    @pytest.mark.parametrize("key", HARMLESS)
    def test_a_hugging_face_config_may_have_them(self, key, make_state, save, expected):
        """transformers' LlamaConfig takes each of them and computes the same."""
        loaded = read_checkpoint(save(make_state()), self.LLAMA | {key: HARMLESS[key]})
        assert torch.equal(logits(loaded.model), expected)
        changing = {"rope_interleaved", "use_mrope", "quantization"}
        assert any(key in note for note in loaded.report.notes) is (key not in changing)

    @pytest.mark.parametrize(
        "changing",
        [{"rope_interleaved": True}, {"use_mrope": True}, {"quantization": {"bits": 4}}, {"residual_multiplier": 0.2}],
    )
    def test_what_changes_the_computation_is_refused(self, changing, make_state, save):
        with pytest.raises(ConfigError, match="changes what the model computes"):
            load_checkpoint(save(make_state()), self.LLAMA | changing)

    def test_in_miniminds_own_config_they_are_errors(self, make_state, save):
        with pytest.raises(ConfigError, match="unknown key 'unsloth_fixed'"):
            load_checkpoint(save(make_state()), {"model_type": "minimind", "unsloth_fixed": True})


class TestPeft:
    MODULE = "model.layers.1.mlp.down_proj"

    @pytest.fixture
    def adapter(self, tmp_path):
        """Write a PEFT folder of one module, and return it with B @ A."""

        def write(**config) -> tuple[Path, torch.Tensor]:
            folder = tmp_path / "adapter"
            folder.mkdir(exist_ok=True)
            down, up = torch.randn(4, 96), torch.randn(64, 4)
            names = {f"base_model.model.{self.MODULE}.lora_{part}.weight": x for part, x in (("A", down), ("B", up))}
            save_file(names, folder / "adapter_model.safetensors")
            settings = {"peft_type": "LORA", "r": 4, "lora_alpha": 10, "init_lora_weights": True, "use_dora": False}
            (folder / "adapter_config.json").write_text(json.dumps(settings | config))
            return folder, up @ down

        return write

    @pytest.mark.parametrize(
        ("config", "scale"),
        [
            ({}, 10 / 4),
            ({"use_rslora": True}, 10 / math.sqrt(4)),
            ({"alpha_pattern": {"down_proj": 3}}, 3 / 4),
            ({"alpha_pattern": {"layers.0.mlp.down_proj": 3}}, 10 / 4),
        ],
    )
    @pytest.mark.parametrize("named", ["folder", "file"])
    def test_merged_with_its_own_scale(self, config, scale, named, adapter, make_state, save):
        folder, product = adapter(**config)
        path = folder if named == "folder" else folder / "adapter_model.safetensors"
        state = make_state()
        loaded = read_checkpoint(save(state), lora=path)
        merged = loaded.model.get_parameter(f"{self.MODULE}.weight")
        torch.testing.assert_close(merged.detach(), state[f"{self.MODULE}.weight"].float() + scale * product)
        assert loaded.report.lora[0].file == path
        assert loaded.report.lora[0].rank == 4

    @pytest.mark.parametrize(
        ("config", "message"),
        [
            ({"peft_type": "IA3"}, "peft_type 'IA3' is not supported"),
            ({"use_dora": True}, "use_dora is not supported"),
            ({"fan_in_fan_out": True}, "fan_in_fan_out is not supported"),
            ({"init_lora_weights": "pissa"}, "'pissa' changes the base's weights"),
            ({"lora_alpha": "16"}, "lora_alpha must be a number, found '16'"),
            ({"lora_alpha": 10**400}, "lora_alpha must be a number"),
            ({"alpha_pattern": {"(a+)+$": 1}}, "alpha_pattern must map names"),
        ],
    )
    def test_more_than_lora_is_refused(self, config, message, adapter, make_state, save):
        folder, _ = adapter(**config)
        with pytest.raises(AdapterError, match=message):
            load_checkpoint(save(make_state()), lora=folder)

    def test_a_folder_without_an_adapter(self, make_state, save, tmp_path):
        (tmp_path / "empty").mkdir()
        with pytest.raises(AdapterError, match=r"no PEFT adapter in this folder; expected adapter_config\.json"):
            load_checkpoint(save(make_state()), lora=tmp_path / "empty")

    def test_a_model_that_wears_its_adapter(self, make_state, save):
        state = {f"base_model.model.{name}": tensor for name, tensor in make_state().items()}
        weight = state.pop(f"base_model.model.{self.MODULE}.weight")
        at = f"base_model.model.{self.MODULE}"
        state |= {f"{at}.base_layer.weight": weight, f"{at}.lora_A.default.weight": torch.ones(4, 96)}
        with pytest.raises(CheckpointError, match="merge_and_unload"):
            load_checkpoint(save(state))


@pytest.mark.parametrize(
    "text",
    [
        '{"hidden_size": 1e999}',
        '{"rope_theta": 1e999}',
        '{"max_position_embeddings": ' + "9" * 400 + "}",
        '{"vocab_size": ' + "9" * 5000 + "}",
        '{"model_type": "\\ud800"}',
        '{"hidden_act": "a\\u0000b"}',
        '{"' + "n" * 5000 + '": 1}',
        '{"rope_scaling": {"type": "\\ud800"}}',
        '{"layer_types": {"a": 1}}',
        '{"architectures": 3, "auto_map": 7, "model_type": 5}',
        '{"model_type": "qwen3_moe", "num_experts_per_tok": []}',
        "[" * 5000,
    ],
)
def test_hostile_configs_are_our_errors(text, make_state, save, tmp_path):
    save(make_state(), "folder/model.pth")
    (tmp_path / "folder" / "config.json").write_text(text)
    with pytest.raises((ConfigError, CheckpointError)) as caught:
        load_checkpoint(tmp_path / "folder")
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 700
    message.encode()


@pytest.mark.parametrize("name", ["a\\u0000b.safetensors", "\\ud800.safetensors", "n" * 5000, "..", "a/b"])
def test_hostile_shard_names(name, tmp_path):
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "' + name + '"}}')
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(tmp_path)
    assert str(caught.value).isprintable()


def test_a_byte_order_mark_is_no_error(make_state, save, tmp_path):
    save(make_state(), "folder/model.pth")
    (tmp_path / "folder" / "config.json").write_text('\ufeff{"num_attention_heads": 4}', encoding="utf-8")
    assert load_checkpoint(tmp_path / "folder").config.num_attention_heads == 4
