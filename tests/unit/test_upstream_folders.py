"""Upstream's own folders by `from_pretrained`: its MiniMind-3 doesn't say in words that it normalises q and k."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from minimind_edge.minimind import CheckpointError, ConfigError, MiniMindConfig, MiniMindForCausalLM, load_checkpoint

UPSTREAM = Path(os.environ.get("MINIMIND_EDGE_UPSTREAM", "not given")) / "minimind3"
"""Small checkpoints that upstream's own trainers left, and upstream's answers to them."""

IDS = torch.tensor([[5, 9, 3, 77, 8, 21]])

# What upstream's own converter writes for a MiniMind-3, its auto_map included.
MINIMIND3 = {
    "architectures": ["MiniMindForCausalLM"],
    "auto_map": {"AutoConfig": "model_minimind.MiniMindConfig", "AutoModelForCausalLM": "model_minimind.X"},
    "bos_token_id": 1,
    "dropout": 0.0,
    "dtype": "float16",
    "eos_token_id": 2,
    "flash_attn": True,
    "head_dim": 16,
    "hidden_act": "silu",
    "hidden_size": 64,
    "inference_rope_scaling": False,
    "intermediate_size": 96,
    "max_position_embeddings": 32768,
    "max_seq_len": 8192,
    "model_type": "minimind",
    "moe_intermediate_size": 96,
    "norm_topk_prob": True,
    "num_attention_heads": 4,
    "num_experts": 3,
    "num_experts_per_tok": 1,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 1000000.0,
    "router_aux_loss_coef": 0.0005,
    "transformers_version": "4.57.6",
    "use_moe": False,
    "vocab_size": 101,
}


@pytest.fixture(params=[False, True], ids=["dense", "moe"])
def folder(request, tmp_path) -> Path:
    """A random MiniMind-3 with upstream's config.json."""
    torch.manual_seed(0)
    config = MiniMindConfig.minimind3(
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=96,
        vocab_size=101,
        use_moe=request.param,
        n_routed_experts=3,
    )
    MiniMindForCausalLM(config).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(MINIMIND3 | {"use_moe": request.param}))
    return tmp_path


@pytest.mark.parametrize("way", [MiniMindForCausalLM, AutoModelForCausalLM])
@pytest.mark.parametrize("options", [{}, {"trust_remote_code": True}])
@torch.no_grad()
def test_the_generation_is_read_as_load_checkpoint_reads_it(way, options, folder):
    model = way.from_pretrained(folder, dtype=torch.float32, **options).eval()
    assert type(model) is MiniMindForCausalLM
    found = (model.config.qk_norm, model.config.n_routed_experts, model.config.n_shared_experts)
    assert found == (True, 3, 0)
    assert model.config.aux_loss_alpha == 0.0005
    assert torch.equal(model(IDS).logits, load_checkpoint(folder)(IDS).logits)


def test_yarn_as_transformers_5_writes_it(folder):
    """Under transformers 5 upstream's `rope_scaling` becomes `rope_parameters`."""
    yarn = {"beta_fast": 32, "beta_slow": 1, "factor": 8, "original_max_position_embeddings": 1024}
    yarn |= {"attention_factor": 1.0, "rope_theta": 1e6, "rope_type": "yarn", "type": "yarn"}
    config = json.loads((folder / "config.json").read_text()) | {
        "inference_rope_scaling": True,
        "rope_parameters": yarn,
    }
    del config["rope_scaling"]
    (folder / "config.json").write_text(json.dumps(config))
    scaling = AutoConfig.from_pretrained(folder).rope_scaling
    assert (scaling["factor"], scaling["original_max_position_embeddings"]) == (8, 1024)


@pytest.mark.parametrize("way", [MiniMindForCausalLM, AutoModelForCausalLM])
def test_missing_and_unexpected_tensors_are_errors(way, folder):
    file = folder / "model.safetensors"
    state = load_file(file)
    save_file(state | {"model.extra.weight": torch.ones(2)}, file, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"unexpected tensor model\.extra\.weight \(1 in all\)"):
        way.from_pretrained(folder)
    del state["model.layers.1.self_attn.q_norm.weight"]
    save_file(state, file, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"missing tensor model\.layers\.1\.self_attn\.q_norm\.weight"):
        way.from_pretrained(folder)


def test_the_other_generations_config_is_an_error(folder):
    config = json.loads((folder / "config.json").read_text())
    for name in ("num_experts", "router_aux_loss_coef", "moe_intermediate_size"):
        del config[name]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"tensor model\.layers.* not the minimind2"):
        MiniMindForCausalLM.from_pretrained(folder, ignore_mismatched_sizes=True)


def test_another_models_folder_is_an_error(folder):
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "hidden_size": 64}))
    with pytest.raises(ConfigError, match="model_type 'llama' is not 'minimind'; load_checkpoint reads it"):
        MiniMindForCausalLM.from_pretrained(folder)


@pytest.mark.skipif(not UPSTREAM.is_dir(), reason="MINIMIND_EDGE_UPSTREAM names no folder of upstream's checkpoints")
@pytest.mark.parametrize("suffix", ["", "_moe"])
@torch.no_grad()
def test_upstreams_answers(suffix, tmp_path):
    """The first answers that upstream's own code gave, greedy in float32, from a folder as its converter leaves it."""
    shutil.copy(UPSTREAM / f"converted_config{suffix}.json", tmp_path / "config.json")
    state = torch.load(UPSTREAM / f"full_sft_128{suffix}.pth", weights_only=True)
    del state["lm_head.weight"]
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    model = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    for answer in json.loads((UPSTREAM / "answers.json").read_text())[f"full_sft_128{suffix}.pth"][:4]:
        ids = torch.tensor([answer["ids"]])
        options = {"do_sample": False, "max_new_tokens": 40, "eos_token_id": 2, "pad_token_id": 0}
        found = model.generate(ids, attention_mask=torch.ones_like(ids), **options)
        assert found[0, ids.shape[1] :].tolist() == answer["out"]
