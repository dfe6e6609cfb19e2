"""Text that a model writes: behind its prompts, the same each time, and what transformers would sample from."""

from __future__ import annotations

import torch

from minimind_edge.export.quantization.calibration import calibration_prompts, written_text
from minimind_edge.minimind import MiniMindConfig, MiniMindForCausalLM

PROMPTS = [(1, 5, 6), (1,), tuple(range(40))]


def model() -> MiniMindForCausalLM:
    torch.manual_seed(0)
    config = MiniMindConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, vocab_size=50
    )
    made = MiniMindForCausalLM(config).eval()
    with torch.no_grad():
        made.model.embed_tokens.weight.mul_(100)  # a tied head: the likeliest token by far is the one before
    return made


def test_rows_begin_with_their_prompts_and_have_one_length() -> None:
    text = written_text(model(), PROMPTS, rows=5, length=16)
    assert text.shape == (5, 16)
    assert text[0, :3].tolist() == [1, 5, 6]
    assert text[2, :8].tolist() == list(range(8))  # half of a row at most
    assert text[3, :3].tolist() == [1, 5, 6]


def test_it_is_the_same_each_time() -> None:
    assert torch.equal(written_text(model(), PROMPTS, 4, 12), written_text(model(), PROMPTS, 4, 12))


def test_it_is_likely_for_the_model() -> None:
    wrote = written_text(model(), [(7,)], rows=4, length=12)
    with torch.no_grad():
        likely = model()(wrote).logits.log_softmax(-1)[:, :-1].gather(2, wrote[:, 1:, None]).mean()
    drawn = torch.randint(50, (4, 12), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        by_chance = model()(drawn).logits.log_softmax(-1)[:, :-1].gather(2, drawn[:, 1:, None]).mean()
    assert likely > by_chance + 1


def test_a_model_without_a_tokenizer_begins_with_its_first_token() -> None:
    assert calibration_prompts(None, 3) == [(3,)]
    assert calibration_prompts(None, None) == [(0,)]
