"""Tensors that don't make a model: the error names them as the file does."""

from __future__ import annotations

import pytest
import torch

from minimind_edge.minimind import CheckpointError, load_checkpoint


@pytest.fixture
def refusal(save):
    def message_for(state, **kwargs) -> str:
        with pytest.raises(CheckpointError) as caught:
            load_checkpoint(save(state), **kwargs)
        message = str(caught.value)
        assert "\n" not in message
        return message

    return message_for


@pytest.mark.parametrize("kind", ["v1", "minimind2-legacy", "minimind2", "minimind3"])
@pytest.mark.parametrize("moe", [False, True])
def test_each_missing_tensor_is_named(kind, moe, make_state, save):
    state = make_state(kind, moe=moe)
    head = "output.weight" if "output.weight" in state else "lm_head.weight"
    for name in state:
        if name == head:
            continue
        rest = {other: tensor for other, tensor in state.items() if other != name}
        with pytest.raises(CheckpointError, match=r"missing tensors? (\S+, )*" + name.replace(".", r"\.")):
            load_checkpoint(save(rest))


def test_missing_head_where_it_must_not_be_tied(make_state, refusal):
    state = make_state()
    del state["lm_head.weight"]
    assert "missing tensor lm_head.weight" in refusal(state, config={"tie_word_embeddings": False})


def test_missing_layer(make_state, refusal):
    state = {name.replace("layers.1.", "layers.2."): tensor for name, tensor in make_state("v1").items()}
    assert "missing tensor layers.1.attention_norm.weight: the checkpoint has layer 2, but no layer 1" in refusal(state)


def test_many_missing_tensors_are_counted(make_state, refusal):
    state = {name: tensor for name, tensor in make_state().items() if "layers.1.mlp" not in name}
    del state["model.norm.weight"]
    assert "and 1 more" in refusal(state)


def test_missing_expert(make_state, refusal):
    state = {
        name: tensor
        for name, tensor in make_state("v1", moe=True).items()
        if "layers.1.feed_forward.experts.2" not in name
    }
    assert "missing tensors layers.1.feed_forward.experts.2.w1.weight, " in refusal(state)


def test_surplus_tensors_are_named_and_counted(make_state, refusal):
    vision = {f"vision_encoder.layers.{i}.weight": torch.ones(2) for i in range(5)}
    message = refusal(make_state() | vision)
    assert message.startswith("surplus tensors vision_encoder.layers.0.weight, vision_encoder.layers.1.weight, ")
    assert "and 2 more" in message


def test_surplus_tensor_keeps_the_files_name(make_state, refusal):
    assert "surplus tensor layers.1.attention.extra" in refusal(
        make_state("v1") | {"layers.1.attention.extra": torch.ones(2)}
    )


def test_bias_is_surplus(make_state, refusal):
    bias = {"model.layers.0.self_attn.q_proj.bias": torch.ones(64)}
    assert "surplus tensor model.layers.0.self_attn.q_proj.bias" in refusal(make_state() | bias)


def test_other_model(refusal):
    message = refusal({"wte.weight": torch.ones(2, 2), "wpe.weight": torch.ones(2, 2)})
    assert "missing tensor model.embed_tokens.weight: not a MiniMind checkpoint" in message
    assert "wte.weight, wpe.weight" in message


@pytest.mark.parametrize(
    ("kind", "name", "model_name"),
    [
        ("minimind2", "model.layers.1.self_attn.o_proj.weight", None),
        ("minimind2", "model.layers.1.self_attn.q_proj.weight", None),
        ("minimind2", "model.layers.0.self_attn.v_proj.weight", None),
        ("minimind2", "model.norm.weight", None),
        ("v1", "layers.1.attention.wk.weight", None),
        ("v1", "layers.1.feed_forward.w2.weight", None),
    ],
)
def test_misshapen(kind, name, model_name, make_state, refusal):
    state = make_state(kind)
    shape = list(state[name].shape)
    state[name] = state[name][:-1]
    assert f"tensor {name} has shape {[shape[0] - 1, *shape[1:]]}; expected {shape}" in refusal(state)


@pytest.mark.parametrize("name", ["model.embed_tokens.weight", "model.layers.0.mlp.gate_proj.weight"])
@pytest.mark.parametrize("shape", [(64,), (0, 64), (2, 3, 4), ()])
def test_no_matrix(name, shape, make_state, refusal):
    assert f"tensor {name} has shape {list(shape)}; expected a matrix" in refusal(
        make_state() | {name: torch.ones(shape)}
    )


def test_norm_that_is_no_vector(make_state, refusal):
    name = "model.layers.0.self_attn.q_norm.weight"
    assert f"tensor {name} has shape [24, 1]; expected a vector" in refusal(
        make_state("minimind3") | {name: torch.ones(24, 1)}
    )


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize(("kind", "name"), [("minimind2", "model.norm.weight"), ("v1", "layers.0.attention.wq.weight")])
def test_not_finite(value, kind, name, make_state, refusal):
    state = make_state(kind)
    state[name].view(-1)[:2] = value
    assert f"tensor {name} has 2 values that are NaN or infinite" in refusal(state)


def test_nan_in_both_copies_of_the_embedding(make_state, refusal):
    state = make_state()
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        state[name][0, 0] = torch.nan
    assert "values that are NaN or infinite" in refusal(state)


@pytest.mark.parametrize(
    "dtype", [torch.int8, torch.uint8, torch.int64, torch.bool, torch.complex64, torch.float8_e4m3fn]
)
def test_not_a_float(dtype, make_state, refusal):
    name = "model.layers.0.mlp.up_proj.weight"
    state = make_state()
    state[name] = state[name].to(dtype)
    assert f"tensor {name} is {str(dtype).removeprefix('torch.')}; expected float16, bfloat16 or float32" in refusal(
        state
    )


def test_head_that_is_not_the_embedding(make_state, save):
    state = make_state("v1")
    state["output.weight"][1, 1] += 1
    assert not load_checkpoint(save(state)).config.tie_word_embeddings


@pytest.mark.parametrize(
    ("name", "shape"),
    [("gate_up_proj", (4, 96 * 2)), ("gate_up_proj", (4, 95, 64)), ("down_proj", (64, 96))],
)
def test_misshapen_fused_experts(name, shape, make_state, refusal):
    state = {key: tensor for key, tensor in make_state("minimind3", moe=True).items() if ".experts." not in key}
    fused = f"model.layers.0.mlp.experts.{name}"
    assert f"tensor {fused} has shape {list(shape)}; expected [experts, " in refusal(state | {fused: torch.ones(shape)})


def test_fused_beside_separate_experts(make_state, refusal):
    fused = {"model.layers.0.mlp.experts.down_proj": torch.ones(4, 64, 96)}
    assert "is in the checkpoint twice" in refusal(make_state("minimind3", moe=True) | fused)
