"""Folders that transformers wrote give transformers' own logits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from graph_files import write_graph
from safetensors.torch import load_file, save_file

from minimind_edge.minimind import MiniMindConfig, MiniMindForCausalLM, load_checkpoint, read_checkpoint
from minimind_edge.minimind.checkpoint.resolution import MOE_FIELDS

SIZES = {
    "vocab_size": 101,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
MOE = {"num_experts": 4, "moe_intermediate_size": 48}
IDS = torch.randint(101, (2, 33), generator=torch.Generator().manual_seed(1))

# name: (family, config)
MODELS = {
    "llama": ("Llama", {"rms_norm_eps": 1e-5}),
    "llama-tied": ("Llama", {"tie_word_embeddings": True}),
    "llama-mqa": ("Llama", {"num_key_value_heads": 1, "head_dim": 32}),
    "qwen3": ("Qwen3", {"head_dim": 24}),
    "qwen3-tied": ("Qwen3", {"head_dim": 16, "tie_word_embeddings": True, "rms_norm_eps": 1e-4}),
    "qwen3-moe": ("Qwen3Moe", MOE | {"head_dim": 16, "num_experts_per_tok": 2, "norm_topk_prob": True}),
    "qwen3-moe-raw": ("Qwen3Moe", MOE | {"head_dim": 24, "num_experts_per_tok": 3, "norm_topk_prob": False}),
    "qwen3-moe-top1": ("Qwen3Moe", MOE | {"head_dim": 16, "num_experts_per_tok": 1, "norm_topk_prob": True}),
}


def hugging_face_model(family: str, **config):
    import transformers

    torch.manual_seed(11)
    settings = getattr(transformers, f"{family}Config")(**SIZES | config)
    model = getattr(transformers, f"{family}ForCausalLM")(settings).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("norm.weight"):
                parameter.uniform_(0.5, 1.5)  # all ones would hide a mixed-up norm
            else:
                parameter.normal_(std=0.1)
    return model


def rope(theta: float, **yarn) -> dict[str, object]:
    """RoPE settings in the words of the installed transformers."""
    if transformers_major() >= 5:
        return {"rope_parameters": {"rope_type": "default", "rope_theta": theta} | yarn}
    return {"rope_theta": theta, "rope_scaling": yarn or None}


def transformers_major() -> int:
    import transformers

    return int(transformers.__version__.split(".")[0])


def assert_equal_logits(found, expected) -> None:
    with torch.no_grad():
        ours, theirs = found(IDS).logits, expected(IDS).logits
    scale = theirs.abs().max()
    assert scale > 0.1
    assert (ours - theirs).abs().max() < 1e-5 * scale


@pytest.mark.parametrize("name", MODELS)
def test_saved_folder(name, tmp_path):
    family, config = MODELS[name]
    model = hugging_face_model(family, **config)
    model.save_pretrained(tmp_path)
    loaded = read_checkpoint(tmp_path)
    assert_equal_logits(loaded.model, model)
    assert loaded.report.generation == ("minimind2" if family == "Llama" else "minimind3")
    assert loaded.model.config.tie_word_embeddings == config.get("tie_word_embeddings", False)
    assert loaded.model.config.rope_theta == 1e4
    assert loaded.report.assumed.keys() <= {"seq_aux"}  # training only, and no config of transformers has it


def stacked(experts) -> tuple[torch.Tensor, torch.Tensor]:
    """Hugging Face's fused parameters, [E, 2 I, H] and [E, H, I]; transformers 4 has its experts apart."""
    if hasattr(experts, "gate_up_proj"):
        return experts.gate_up_proj.detach(), experts.down_proj.detach()
    gate_up = [torch.cat((expert.gate_proj.weight, expert.up_proj.weight)) for expert in experts]
    return torch.stack(gate_up).detach(), torch.stack([expert.down_proj.weight for expert in experts]).detach()


@pytest.mark.parametrize("name", ["qwen3-moe", "qwen3-moe-raw"])
@pytest.mark.parametrize("fused", [True, False])
def test_experts_fused_and_separate(name, fused, tmp_path):
    """transformers 5 fuses experts in memory; both forms are written, by its converters and by users."""
    family, config = MODELS[name]
    model = hugging_face_model(family, **config)
    model.save_pretrained(tmp_path)
    state = {key: tensor for key, tensor in load_file(tmp_path / "model.safetensors").items() if ".experts." not in key}
    for layer, block in enumerate(model.model.layers):
        at = f"model.layers.{layer}.mlp.experts"
        gate_up, down = stacked(block.mlp.experts)
        if fused:
            state |= {f"{at}.gate_up_proj": gate_up, f"{at}.down_proj": down}
            continue
        for expert in range(4):
            state[f"{at}.{expert}.gate_proj.weight"] = gate_up[expert, :48].clone()
            state[f"{at}.{expert}.up_proj.weight"] = gate_up[expert, 48:].clone()
            state[f"{at}.{expert}.down_proj.weight"] = down[expert].clone()
    save_file(state, tmp_path / "model.safetensors")
    assert_equal_logits(load_checkpoint(tmp_path), model)


def test_sharded_folder(tmp_path):
    model = hugging_face_model("Qwen3Moe", **MODELS["qwen3-moe"][1])
    model.save_pretrained(tmp_path, max_shard_size="100KB")
    assert (tmp_path / "model.safetensors.index.json").is_file()
    loaded = read_checkpoint(tmp_path)
    assert len(loaded.report.files) > 2
    assert_equal_logits(loaded.model, model)


def rounded(model, dtype: torch.dtype):
    """The model with its weights, but not its rotary frequencies, in `dtype`."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    return model


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_folder(dtype, tmp_path):
    model = rounded(hugging_face_model("Llama"), dtype)
    model.save_pretrained(tmp_path)
    assert_equal_logits(load_checkpoint(tmp_path), rounded(model, torch.float32))


def rewrite_config(folder: Path, changes: dict[str, object], drop: tuple[str, ...] = ()) -> None:
    file = folder / "config.json"
    config = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in config.items() if key not in drop}))


def test_config_in_the_words_of_transformers_4(tmp_path):
    model = hugging_face_model("Qwen3", head_dim=16, **rope(1e6))
    model.save_pretrained(tmp_path)
    rewrite_config(tmp_path, {"rope_theta": 1e6, "rope_scaling": None, "torch_dtype": "float32"}, ("rope_parameters",))
    loaded = load_checkpoint(tmp_path)
    assert loaded.config.rope_theta == 1e6
    assert_equal_logits(loaded, model)


@pytest.mark.parametrize("attention_factor", [None, 1.0])
def test_yarn(attention_factor, tmp_path):
    yarn = {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 32}
    if attention_factor is not None:
        yarn["attention_factor"] = attention_factor
    model = hugging_face_model("Llama", **rope(1e4, **yarn))
    model.save_pretrained(tmp_path)
    loaded = load_checkpoint(tmp_path)
    assert loaded.config.inference_rope_scaling
    assert_equal_logits(loaded, model)


SCALINGS = {
    "linear": {"rope_type": "linear", "factor": 4.0},
    "dynamic": {"rope_type": "dynamic", "factor": 4.0},
    "llama3": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    },
    "yarn-mscale": {
        "rope_type": "yarn",
        "factor": 8.0,
        "original_max_position_embeddings": 32,
        "mscale": 1.0,
        "mscale_all_dim": 0.5,
        "truncate": False,
    },
}


@pytest.mark.parametrize("target", ["portable", "ort", "tensorrt"])
@pytest.mark.parametrize("kind", SCALINGS)
def test_every_scaling_reaches_the_graph(kind, target, tmp_path):
    """transformers' own logits by the folder's model, by its graph, and by the artifact's config."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from minimind_edge.export.artifact.hf_config import model_config
    from minimind_edge.export.parity import compare

    model = hugging_face_model("Llama", **rope(1e4, **SCALINGS[kind]))
    model.save_pretrained(tmp_path)
    loaded = load_checkpoint(tmp_path)
    assert loaded.config.rope_scaling is not None
    assert_equal_logits(loaded, model)
    path = write_graph(tmp_path, loaded, target, max_length=128)
    report = compare(loaded, path, target=target, precision="fp32", steps=8)
    assert report, report.failures
    again = LlamaForCausalLM(LlamaConfig(**model_config(loaded.config))).eval()
    again.load_state_dict(model.state_dict())
    assert_equal_logits(again, model)


def test_bare_weights_of_a_folder_with_its_config(tmp_path):
    """What upstream's converter does the other way round: `torch.save(model.state_dict())`, float16."""
    model = hugging_face_model("Llama", tie_word_embeddings=True)
    torch.save(rounded(model, torch.float16).state_dict(), tmp_path / "full_sft_64.pth")
    config = {"n_heads": 4, "norm_eps": 1e-6, "rope_theta": 1e4}
    assert_equal_logits(load_checkpoint(tmp_path / "full_sft_64.pth", config), rounded(model, torch.float32))


@pytest.mark.parametrize("moe", [False, True])
@pytest.mark.parametrize("generation", ["minimind2", "minimind3"])
def test_our_own_folder(generation, moe, tmp_path):
    make = MiniMindConfig if generation == "minimind2" else MiniMindConfig.minimind3
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    torch.manual_seed(2)
    model = MiniMindForCausalLM(make(**sizes, vocab_size=101, use_moe=moe, inference_rope_scaling=True)).eval()
    model.save_pretrained(tmp_path)
    loaded = read_checkpoint(tmp_path)
    assert torch.equal(loaded.model(IDS).logits, model(IDS).logits)
    ignored = {"dtype", "architectures"} | (set() if moe else MOE_FIELDS)
    found, expected = loaded.model.config.to_dict(), model.config.to_dict()
    assert {key: found[key] for key in found.keys() - ignored} == {
        key: expected[key] for key in expected.keys() - ignored
    }
