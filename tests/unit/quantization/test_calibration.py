"""Text that a model writes: after its prompts, the same each time, the same as in PyTorch, and likely."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from minimind_edge.export.quantization.author import EagerAuthor, author_of
from minimind_edge.export.quantization.calibration import calibration_prompts, written_text
from minimind_edge.minimind import MiniMindConfig, MiniMindForCausalLM
from minimind_edge.runtime.session.session import Session

PROMPTS = [(1, 5, 6), (1,), tuple(range(40))]


def model(**fields: Any) -> MiniMindForCausalLM:
    torch.manual_seed(0)
    config = MiniMindConfig(
        **{"hidden_size": 32, "num_attention_heads": 2, "num_key_value_heads": 1, **fields},
        num_hidden_layers=2,
        vocab_size=50,
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


class OfOtherCode(nn.Module):
    """A model that no graph is written for, so that it runs in PyTorch."""

    def __init__(self, model: MiniMindForCausalLM) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: Any, **named: Any) -> Any:
        return self.model(*inputs, **named)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"use_moe": True},
        {"hidden_size": 24},  # heads of 12, which ONNX Runtime's fused attention does not take
    ],
)
def test_a_session_writes_what_pytorch_writes(fields: dict[str, Any]) -> None:
    made = model(**fields)
    with author_of(made, 64) as author:
        assert isinstance(author, Session)
    with author_of(OfOtherCode(made), 64) as author:  # type: ignore[arg-type]
        assert isinstance(author, EagerAuthor)
    by_pytorch = written_text(OfOtherCode(made), PROMPTS, rows=5, length=24)  # type: ignore[arg-type]
    assert torch.equal(written_text(made, PROMPTS, rows=5, length=24), by_pytorch)


def test_the_progress_grows_to_one() -> None:
    shares: list[float] = []
    written_text(model(), PROMPTS, 3, 12, lambda stage, done: shares.append(done))
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)


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
