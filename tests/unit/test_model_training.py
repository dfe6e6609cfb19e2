"""Loss, gradients and dropout."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn.functional import cross_entropy, log_softmax

from minimind_edge.minimind import MiniMindConfig

IDS = torch.tensor([[5, 9, 3, 77, 8, 21], [4, 4, 100, 6, 2, 0]])


def test_loss_is_the_mean_over_the_next_tokens(tiny_model):
    labels = IDS.clone()
    labels[1, 3:] = -100
    output = tiny_model(IDS, labels=labels)
    log_probabilities = log_softmax(output.logits, dim=-1)
    due = [(0, slot) for slot in range(5)] + [(1, 0), (1, 1)]
    expected = -torch.stack([log_probabilities[row, slot, IDS[row, slot + 1]] for row, slot in due]).mean()
    torch.testing.assert_close(output.loss, expected)
    torch.testing.assert_close(output.loss, cross_entropy(output.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()))


def test_no_labels_no_loss(tiny_model):
    assert tiny_model(IDS).loss is None


def test_gradients_reach_every_parameter(tiny_model):
    tiny_model.train()
    output = tiny_model(IDS, labels=IDS)
    (output.loss + output.aux_loss).backward()
    # With one expert per token, normalised, the weight is 1 whatever the router says: its gradient is the loss's alone.
    for name, parameter in tiny_model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        if "experts" not in name:
            assert parameter.grad.abs().max() > 0, name


def test_a_few_steps_learn_the_batch(tiny_model):
    tiny_model.train()
    optimizer = torch.optim.AdamW(tiny_model.parameters(), lr=3e-3)
    losses = []
    for _ in range(8):
        output = tiny_model(IDS, labels=IDS)
        (output.loss + output.aux_loss).backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(output.loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_balancing_loss_is_the_sum_over_the_blocks_in_training_only(tiny_model):
    assert tiny_model(IDS).aux_loss == 0
    seen = []
    for layer in tiny_model.model.layers:
        if tiny_model.config.use_moe:
            layer.mlp.gate.register_forward_hook(lambda gate, inputs, routing: seen.append(routing[2]))
    aux_loss = tiny_model.train()(IDS).aux_loss
    assert len(seen) == (2 if tiny_model.config.use_moe else 0)
    assert all(loss > 0 for loss in seen)
    torch.testing.assert_close(aux_loss, sum(seen, torch.tensor(0.0)))


@pytest.mark.parametrize("flash_attn", [True, False])
def test_dropout_acts_in_training_only(random_model, flash_attn):
    fields = {"hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 128, "flash_attn": flash_attn}
    wet, dry = random_model(MiniMindConfig(**fields, dropout=0.3)), random_model(MiniMindConfig(**fields))
    expected = dry(IDS).logits
    torch.testing.assert_close(wet(IDS).logits, expected)
    torch.testing.assert_close(dry.train()(IDS).logits, expected)
    wet.train()
    torch.manual_seed(0)
    first = wet(IDS).logits
    second = wet(IDS).logits
    torch.manual_seed(0)
    assert torch.equal(wet(IDS).logits, first)
    assert (first - second).abs().max() > 0.1


def test_a_trained_model_can_be_copied(tiny_model):
    """A frozen copy is what preference training compares with."""
    tiny_model.train()(IDS)
    twin = copy.deepcopy(tiny_model)
    torch.testing.assert_close(twin.eval()(IDS).logits, tiny_model.eval()(IDS).logits)


def test_cache_is_off_in_training_unless_asked_for(tiny_model):
    tiny_model.train()
    assert tiny_model(IDS).past_key_values is None
    assert tiny_model(IDS, use_cache=True).past_key_values is not None
    assert tiny_model.eval()(IDS).past_key_values is not None
