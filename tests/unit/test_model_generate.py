"""transformers' `generate` on our model: the cache must not change a token."""

from __future__ import annotations

import pytest
import torch

STEPS = 20


@pytest.fixture
def prompt():
    return torch.randint(3, 128, (1, 7), generator=torch.Generator().manual_seed(3))


@pytest.fixture
def model(tiny_model):
    tiny_model.generation_config.eos_token_id = None
    return tiny_model


def generate(model, ids, mask=None, **settings):
    mask = torch.ones_like(ids) if mask is None else mask
    return model.generate(ids, attention_mask=mask, max_new_tokens=STEPS, **settings)


@torch.no_grad()
def greedy_by_hand(model, ids, steps=STEPS):
    """The whole sequence anew for every token, no cache."""
    for _ in range(steps):
        ids = torch.cat((ids, model(ids, use_cache=False).logits[:, -1:].argmax(-1)), dim=1)
    return ids


def test_greedy_is_the_argmax_without_a_cache(model, prompt):
    expected = greedy_by_hand(model, prompt)
    assert len(set(expected[0].tolist())) > 5
    assert torch.equal(generate(model, prompt, do_sample=False), expected)
    assert torch.equal(generate(model, prompt, do_sample=False, use_cache=False), expected)


def test_left_padded_batch_is_each_row_alone(model, prompt):
    short = prompt[:, -3:]
    ids = torch.cat((prompt, torch.cat((torch.zeros(1, 4, dtype=torch.int64), short), dim=1)))
    mask = torch.tensor([[1] * 7, [0] * 4 + [1] * 3])
    batch = generate(model, ids, mask, do_sample=False)
    assert torch.equal(batch[:1], greedy_by_hand(model, prompt))
    assert torch.equal(batch[1:, 4:], greedy_by_hand(model, short))


def test_beam_search_is_the_same_with_and_without_cache(model, prompt):
    settings = {"do_sample": False, "num_beams": 3}
    cached, uncached = (generate(model, prompt, use_cache=use_cache, **settings) for use_cache in (True, False))
    assert torch.equal(cached, uncached)


def test_sampling_follows_the_seed(model, prompt):
    def sample(seed):
        torch.manual_seed(seed)
        return generate(model, prompt, do_sample=True, top_p=0.95, temperature=1.5)

    assert torch.equal(sample(1), sample(1))
    assert not torch.equal(sample(1), sample(2))


def test_generation_ends_at_the_end_token(tiny_model, prompt):
    expected = greedy_by_hand(tiny_model, prompt)
    end = expected[0, 7 + 3].item()
    first = (expected[0, 7:] == end).nonzero()[0].item()
    ended = generate(tiny_model, prompt, do_sample=False, eos_token_id=end)
    assert torch.equal(ended, expected[:, : 7 + first + 1])
