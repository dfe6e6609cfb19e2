"""What a token's logits may depend on: never on what follows, on padding, or on how the prompt was cut."""

from __future__ import annotations

import pytest
import torch

LENGTH = 9
SPLITS = [(9,), (4, 5), (1, 6, 2), (1,) * 9]


@pytest.fixture
def prompt():
    return torch.randint(3, 128, (2, LENGTH), generator=torch.Generator().manual_seed(0))


def assert_same(actual, expected):
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_later_tokens_never_change_earlier_logits(tiny_model, prompt):
    expected = tiny_model(prompt).logits
    for changed in range(1, LENGTH):
        other = prompt.clone()
        other[:, changed] = (prompt[:, changed] + 17) % 128
        logits = tiny_model(other).logits
        assert_same(logits[:, :changed], expected[:, :changed])
        assert (logits[:, changed] - expected[:, changed]).abs().max() > 0.1


@pytest.mark.parametrize("split", SPLITS, ids=str)
@torch.no_grad()
def test_every_chunking_gives_the_one_pass_logits(tiny_model, prompt, split):
    past, chunks = None, []
    for chunk in prompt.split(split, dim=1):
        output = tiny_model(chunk, past_key_values=past, use_cache=True)
        past = output.past_key_values
        chunks.append(output.logits)
    whole = tiny_model(prompt, use_cache=True)
    assert_same(torch.cat(chunks, dim=1), whole.logits)
    assert_same(past, whole.past_key_values)


@pytest.mark.parametrize("split", SPLITS, ids=str)
@pytest.mark.parametrize("side", ["left", "right"])
@torch.no_grad()
def test_padded_rows_give_what_they_give_alone(tiny_model, side, split):
    generator = torch.Generator().manual_seed(1)
    rows = [torch.randint(3, 128, (length,), generator=generator) for length in (LENGTH, 5, 1)]
    ids, mask = torch.zeros(3, LENGTH, dtype=torch.int64), torch.zeros(3, LENGTH, dtype=torch.int64)
    for index, row in enumerate(rows):
        real = slice(LENGTH - len(row), None) if side == "left" else slice(len(row))
        ids[index, real], mask[index, real] = row, 1
    past, chunks, end = None, [], 0
    for chunk in ids.split(split, dim=1):
        end += chunk.shape[1]
        output = tiny_model(chunk, attention_mask=mask[:, :end], past_key_values=past, use_cache=True)
        past = output.past_key_values
        chunks.append(output.logits)
    logits = torch.cat(chunks, dim=1)
    assert torch.isfinite(logits).all()
    for index, row in enumerate(rows):
        assert_same(logits[index, mask[index].bool()], tiny_model(row[None]).logits[0])


@torch.no_grad()
def test_decoding_goes_on_behind_right_padding(tiny_model, prompt):
    mask = torch.ones(2, LENGTH + 3, dtype=torch.int64)
    mask[0, 5:LENGTH] = 0
    padded = prompt * mask[:, :LENGTH]
    past = tiny_model(padded, attention_mask=mask[:, :LENGTH], use_cache=True).past_key_values
    following = torch.tensor([[7, 8, 9], [10, 11, 12]])
    for step in range(3):
        output = tiny_model(
            following[:, step : step + 1],
            attention_mask=mask[:, : LENGTH + step + 1],
            past_key_values=past,
            use_cache=True,
        )
        past = output.past_key_values
    alone = tiny_model(torch.cat((prompt[:1, :5], following[:1]), dim=1)).logits
    assert_same(output.logits[0, -1], alone[0, -1])
    assert_same(output.logits[1, -1], tiny_model(torch.cat((prompt[1:], following[1:]), dim=1)).logits[0, -1])


@torch.no_grad()
def test_explicit_positions_are_taken(tiny_model, prompt):
    positions = torch.arange(LENGTH).expand(2, -1)
    expected = tiny_model(prompt).logits
    assert_same(tiny_model(prompt, position_ids=positions).logits, expected)
    assert_same(tiny_model(prompt, position_ids=positions + 1000).logits, expected)  # RoPE is relative
    assert (tiny_model(prompt, position_ids=2 * positions).logits - expected).abs().max() > 0.1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@torch.no_grad()
def test_other_precisions_have_no_nan_under_padding(tiny_model, prompt, dtype):
    mask = torch.tensor([[0] * 6 + [1] * 3, [1] * 4 + [0] * 5])
    expected = tiny_model(prompt, attention_mask=mask).logits
    logits = tiny_model.to(dtype)(prompt, attention_mask=mask).logits
    assert logits.dtype == dtype
    assert torch.isfinite(logits).all()
    error = (logits - expected)[mask.bool()].abs().float()
    bound = {torch.float16: 0.02, torch.bfloat16: 0.2, torch.float64: 1e-4}[dtype]
    assert error.median() < bound * expected.abs().median()
