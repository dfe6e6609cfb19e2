"""LoRA files merged into their base: W + B @ A, and errors that name what doesn't fit."""

from __future__ import annotations

import hashlib

import pytest
import torch

from minimind_edge.minimind import CheckpointError, load_checkpoint, read_checkpoint

SQUARE = {
    "v1": ("layers.{}.attention.wq", "layers.{}.attention.wo"),
    "minimind2": ("model.layers.{}.self_attn.q_proj",),
}


def lora_state(kind="minimind2", rank=3, prefix=""):
    """Upstream's file: pairs for square matrices only, float16."""
    generator = torch.Generator().manual_seed(1)
    state = {}
    for layer in range(2):
        for module in SQUARE[kind]:
            name = prefix + module.format(layer)
            state[f"{name}.lora.A.weight"] = torch.randn(rank, 64, generator=generator).half()
            state[f"{name}.lora.B.weight"] = torch.randn(64, rank, generator=generator).half()
    return state


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod."])
def test_merge_is_the_sum(prefix, make_state, save):
    state, lora = make_state(), lora_state()
    file = save(lora_state(prefix=prefix), "lora_identity_64.pth")
    loaded = read_checkpoint(save(state), lora=file)
    for layer in range(2):
        name = f"model.layers.{layer}.self_attn.q_proj"
        up, down = lora[f"{name}.lora.B.weight"].double(), lora[f"{name}.lora.A.weight"].double()
        expected = state[f"{name}.weight"].double() + up @ down
        merged = loaded.model.get_parameter(f"{name}.weight")
        assert torch.allclose(merged.double(), expected, rtol=0, atol=1e-5)
        assert not torch.allclose(merged, state[f"{name}.weight"].float(), atol=0.1)
    (adapter,) = loaded.report.lora
    assert (adapter.file, adapter.rank) == (file, 3)
    assert adapter.modules == tuple(f"model.layers.{layer}.self_attn.q_proj" for layer in range(2))
    assert adapter.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert f"merged     {file}: LoRA of rank 3 in 2 modules" in loaded.report.lines()
    assert torch.equal(loaded.model.model.norm.weight, state["model.norm.weight"].float())


def test_legacy_pairs_are_merged_before_the_permutation(make_state, save):
    state, lora = make_state("v1"), lora_state("v1")
    model = load_checkpoint(save(state), lora=save(lora, "lora_64.pth"))
    name = "layers.0.attention.wq"
    summed = (
        state[f"{name}.weight"].float() + lora[f"{name}.lora.B.weight"].float() @ lora[f"{name}.lora.A.weight"].float()
    )
    order = [4 * head + row for head in range(16) for row in (0, 2, 1, 3)]
    assert torch.allclose(model.model.layers[0].self_attn.q_proj.weight, summed[order], atol=1e-5)


def test_two_adapters_add_up(make_state, save):
    state, file = make_state(), save(lora_state(), "lora_64.pth")
    once = load_checkpoint(save(state), lora=[file]).model.layers[0].self_attn.q_proj.weight
    twice = load_checkpoint(save(state), lora=[file, str(file)]).model.layers[0].self_attn.q_proj.weight
    base = state["model.layers.0.self_attn.q_proj.weight"].float()
    assert torch.allclose(twice - base, 2 * (once - base), atol=1e-4)


def test_pairs_inside_the_checkpoint_are_merged(make_state, save):
    """Upstream's LoRA trainer saves its whole model, adapters included."""
    state = make_state()
    apart = load_checkpoint(save(state), lora=save(lora_state(), "lora_64.pth"))
    file = save({"model": state | lora_state(), "optimizer": {}}, "lora_64_resume.pth")
    together = read_checkpoint(file)
    for name, parameter in together.model.named_parameters():
        assert torch.equal(parameter, apart.get_parameter(name))
    assert together.report.lora[0].file == file


def test_a_head_with_an_adapter_is_untied(make_state, save):
    state = make_state()
    lora = {"lm_head.lora.A.weight": torch.ones(1, 64), "lm_head.lora.B.weight": torch.ones(50, 1)}
    model = load_checkpoint(save(state), lora=save(lora, "lora_64.pth"))
    assert not model.config.tie_word_embeddings
    assert torch.allclose(model.lm_head.weight, state["lm_head.weight"].float() + 1)
    assert torch.equal(model.model.embed_tokens.weight, state["model.embed_tokens.weight"].float())


def test_adapter_given_as_the_checkpoint(save):
    with pytest.raises(CheckpointError, match=r"LoRA tensors only; pass the base checkpoint here .* \(--lora\)"):
        load_checkpoint(save(lora_state(), "lora_identity_64.pth"))


def changed(name, value):
    state = lora_state()
    if value is None:
        del state[name]
    else:
        state[name] = value
    return state


A, B = (f"model.layers.0.self_attn.q_proj.lora.{part}.weight" for part in "AB")


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        (changed(A, None), f"missing tensor {A}"),
        (changed(B, None), f"missing tensor {B}"),
        (changed(A, torch.ones(2, 64)), f"{A} has rank 2, .*{B} rank 3"),
        (changed(A, torch.ones(3, 32)), r"make \[64, 32\], but model.layers.0.self_attn.q_proj.weight is float16"),
        (changed(A, torch.ones(3)), rf"tensor {A} is float32 \[3\]; expected a floating-point matrix"),
        (changed(B, torch.ones(64, 3, dtype=torch.int8)), rf"tensor {B} is int8; expected float16"),
        (lora_state("v1"), "wq.lora.A.weight has no counterpart: .* no tensor layers.0.attention.wq.weight"),
        ({"model.layers.0.self_attn.q_proj.lora.C.weight": torch.ones(2)}, "lora.C.weight is unknown"),
        ({"model.norm.weight": torch.ones(64)}, "tensor model.norm.weight is no LoRA tensor"),
        ({"mask": torch.ones(2)}, "no LoRA tensors"),
        (
            {"base_model.model.q_proj.lora_A.weight": torch.ones(2, 64)},
            "a PEFT adapter without its adapter_config.json",
        ),
    ],
)
def test_what_does_not_fit(lora, message, make_state, save):
    file = save(lora, "lora_64.pth")
    with pytest.raises(CheckpointError, match=message) as caught:
        load_checkpoint(save(make_state()), lora=file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_adapter_file(make_state, save, tmp_path):
    with pytest.raises(CheckpointError, match="no such LoRA file"):
        load_checkpoint(save(make_state()), lora=tmp_path / "lora_64.pth")


def test_adapter_with_nan(make_state, save):
    file = save(changed(B, torch.full((64, 3), torch.nan)), "lora_64.pth")
    with pytest.raises(CheckpointError, match=rf"{B} has 192 values that are NaN"):
        load_checkpoint(save(make_state()), lora=file)
