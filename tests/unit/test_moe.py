"""Routing, mixture and balancing loss against the textbook's loops."""

from __future__ import annotations

import pytest
import torch

from minimind_edge.minimind import MiniMindConfig, MOEFeedForward, MoEGate

# (MiniMind-3?, experts per token)
ROUTINGS = {
    "minimind2 k=1": (False, 1),
    "minimind2 k=2": (False, 2),
    "minimind3 k=1": (True, 1),
    "minimind3 k=2": (True, 2),
}


def config_of(routing="minimind2 k=2", **fields):
    is_minimind3, top_k = ROUTINGS[routing]
    make = MiniMindConfig.minimind3 if is_minimind3 else MiniMindConfig
    return make(hidden_size=32, num_attention_heads=4, use_moe=True, num_experts_per_tok=top_k, **fields)


def layer_of(config):
    torch.manual_seed(0)
    layer = MOEFeedForward(config).eval()
    for parameter in layer.parameters():
        parameter.data = 0.3 * torch.randn_like(parameter)
    return layer


def route(token, weight, top_k, normalizes):
    """Experts and weights of one token, by sorting."""
    scores = (weight @ token).softmax(0)
    best = sorted(range(len(scores)), key=lambda expert: -scores[expert])[:top_k]
    total = sum(scores[expert] for expert in best) if normalizes else 1.0
    return {expert: scores[expert] / total for expert in best}


def mixture(layer, x, top_k, normalizes):
    """The textbook's loop: token by token, only the chosen experts run."""
    output = torch.zeros_like(x)
    for row in range(x.shape[0]):
        for slot in range(x.shape[1]):
            token = x[row, slot]
            for expert, share in route(token, layer.gate.weight, top_k, normalizes).items():
                output[row, slot] += share * layer.experts[expert](token)
            for shared in getattr(layer, "shared_experts", ()):
                output[row, slot] += shared(token)
    return output


def normalizes(routing):
    is_minimind3, top_k = ROUTINGS[routing]
    return is_minimind3 or top_k > 1


@pytest.mark.parametrize("routing", ROUTINGS)
@torch.no_grad()
def test_gate_routes_as_the_textbook(routing):
    torch.manual_seed(1)
    gate, x = layer_of(config_of(routing)).gate, torch.randn(2, 5, 32)
    topk_idx, topk_weight, aux_loss = gate(x)
    assert topk_idx.shape == topk_weight.shape == (10, ROUTINGS[routing][1])
    assert aux_loss == 0
    for token, experts, weights in zip(x.flatten(0, 1), topk_idx.tolist(), topk_weight, strict=True):
        expected = route(token, gate.weight, ROUTINGS[routing][1], normalizes(routing))
        assert experts == list(expected)
        torch.testing.assert_close(weights, torch.stack(list(expected.values())))


@pytest.mark.parametrize("routing", ROUTINGS)
@torch.no_grad()
def test_weights_sum_to_one_where_they_are_normalised(routing):
    _, topk_weight, _ = layer_of(config_of(routing)).gate(torch.randn(2, 5, 32))
    sums = topk_weight.sum(-1)
    if normalizes(routing):
        torch.testing.assert_close(sums, torch.ones(10))
    else:
        assert (sums < 0.999).all()


@pytest.mark.parametrize("shared", [0, 1, 2])
@pytest.mark.parametrize("routing", ROUTINGS)
@torch.no_grad()
def test_layer_is_the_per_expert_loop(routing, shared):
    torch.manual_seed(1)
    layer = layer_of(config_of(routing, n_routed_experts=5, n_shared_experts=shared, moe_intermediate_size=24))
    x = torch.randn(2, 7, 32)
    expected = mixture(layer, x, ROUTINGS[routing][1], normalizes(routing))
    torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(layer.train()(x), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_unnormalised_weights_are_the_softmax_scores():
    layer, x = layer_of(config_of(norm_topk_prob=False)), torch.randn(1, 4, 32)
    torch.testing.assert_close(layer(x), mixture(layer, x, 2, normalizes=False), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@torch.no_grad()
def test_half_precision_keeps_its_dtype_and_routes_in_float32(dtype):
    layer = layer_of(config_of()).to(dtype)
    x = torch.randn(1, 4, 32).to(dtype)
    assert layer(x).dtype == dtype
    assert layer.gate(x)[1].dtype == torch.float32


def scores_and_loads(gate, x, top_k):
    """Mean score and load of each expert over the tokens [N, H]: load 1 is an even share of the N * k choices."""
    experts = len(gate.weight)
    scores, load = torch.zeros(experts), torch.zeros(experts)
    for token in x:
        scores += (gate.weight @ token).softmax(0) / len(x)
        for expert in route(token, gate.weight, top_k, normalizes=False):
            load[expert] += experts / (len(x) * top_k)
    return scores, load


@pytest.mark.parametrize("top_k", [1, 2])
@torch.no_grad()
def test_balancing_loss_per_sequence(top_k):
    torch.manual_seed(1)
    gate = MoEGate(config_of(f"minimind2 k={top_k}", aux_loss_alpha=0.1, seq_aux=True)).train()
    x = torch.randn(3, 6, 32)
    terms = []
    for sequence in x:
        scores, load = scores_and_loads(gate, sequence, top_k)
        terms.append((scores * load).sum())
    torch.testing.assert_close(gate(x)[2], 0.1 * torch.stack(terms).mean())


@pytest.mark.parametrize("routing", ["minimind2 k=1", "minimind2 k=2", "minimind3 k=1"])
@torch.no_grad()
def test_balancing_loss_of_the_batch(routing):
    torch.manual_seed(1)
    gate = MoEGate(config_of(routing, aux_loss_alpha=0.1, seq_aux=False)).train()
    x = torch.randn(3, 6, 32)
    scores, load = scores_and_loads(gate, x.flatten(0, 1), ROUTINGS[routing][1])
    torch.testing.assert_close(gate(x)[2], 0.1 * (scores * load).sum())


@torch.no_grad()
def test_minimind3s_balancing_loss_is_upstreams():
    """What upstream's own MOEFeedForward of 2026-08 gives for these numbers at top-2: the sum over both choices."""
    gate = MoEGate(config_of("minimind3 k=2")).train()
    gate.weight.copy_((torch.arange(4 * 32).reshape(4, 32).float() * 0.7).sin())
    x = (torch.arange(2 * 7 * 32).reshape(2, 7, 32).float() * 0.3).cos()
    torch.testing.assert_close(gate(x)[2], torch.tensor(0.0010001006303355098), rtol=1e-5, atol=0)


@pytest.mark.parametrize("routing", ["minimind3 k=1", "minimind3 k=2"])
@torch.no_grad()
def test_minimind3s_balancing_loss_is_qwen3_moes(routing):
    from transformers.models.qwen3_moe.modeling_qwen3_moe import load_balancing_loss_func

    torch.manual_seed(1)
    gate = MoEGate(config_of(routing, aux_loss_alpha=0.1)).train()
    x = torch.randn(3, 6, 32)
    logits = (x.flatten(0, 1) @ gate.weight.T,)
    expected = 0.1 * load_balancing_loss_func(logits, num_experts=4, top_k=ROUTINGS[routing][1])
    torch.testing.assert_close(gate(x)[2], expected)


@torch.no_grad()
def test_the_two_balancing_losses_differ():
    torch.manual_seed(1)
    x = torch.randn(3, 6, 32)
    by_sequence, by_batch = (MoEGate(config_of(seq_aux=seq_aux)).train() for seq_aux in (True, False))
    by_batch.load_state_dict(by_sequence.state_dict())
    assert not torch.isclose(by_sequence(x)[2], by_batch(x)[2])


@torch.no_grad()
def test_even_routing_costs_alpha():
    gate = MoEGate(config_of("minimind2 k=1", aux_loss_alpha=0.1, seq_aux=False)).train()
    gate.weight.data = torch.eye(4, 32)
    each_expert_once = 1e-3 * torch.eye(4, 32)[None]
    torch.testing.assert_close(gate(each_expert_once)[2], torch.tensor(0.1))


def test_no_balancing_loss_without_alpha_or_training():
    x = torch.randn(1, 4, 32)
    assert MoEGate(config_of(aux_loss_alpha=0.0)).train()(x)[2] == 0
    assert MoEGate(config_of()).eval()(x)[2] == 0


def test_layer_keeps_the_loss_of_its_last_training_pass():
    layer, x = layer_of(config_of()), torch.randn(1, 4, 32)
    layer.train()(x)
    torch.testing.assert_close(layer.aux_loss, layer.gate(x)[2])


@pytest.mark.parametrize("routing", ["minimind2 k=2", "minimind3 k=2"])
def test_gradients_are_those_of_the_loop(routing):
    torch.manual_seed(1)
    layer, x = layer_of(config_of(routing)), torch.randn(2, 4, 32)
    names = [name for name, _ in layer.named_parameters()]
    parameters = list(layer.parameters())
    ours = torch.autograd.grad(layer(x).square().sum(), parameters, allow_unused=True)
    theirs = torch.autograd.grad(mixture(layer, x, 2, normalizes=True).square().sum(), parameters, allow_unused=True)
    assert ours[names.index("gate.weight")].abs().max() > 0
    for name, mine, yours in zip(names, ours, theirs, strict=True):
        assert mine is not None, name
        torch.testing.assert_close(mine, torch.zeros_like(mine) if yours is None else yours, atol=1e-3, rtol=1e-3)


def test_balancing_loss_reaches_the_router_alone():
    layer = layer_of(config_of()).train()
    layer(torch.randn(1, 6, 32))
    layer.aux_loss.backward()
    assert layer.gate.weight.grad.abs().max() > 0
    assert all(parameter.grad is None for parameter in layer.experts.parameters())
