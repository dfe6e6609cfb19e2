"""Text to calibrate on, that the model writes itself: no download, and the very text that it is going to run."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch

from minimind_edge.minimind import MiniMindForCausalLM
from minimind_edge.runtime.sampling import Sampler, SamplingParams

Progress = Callable[[str, float], None]

SAMPLING = SamplingParams(temperature=0.9, top_p=0.95, seed=20250426)

MOST_PROMPT = 0.5
"""Of a row's tokens, the share that its prompt may take: of a longer one, the end is cut off."""


@torch.no_grad()
def written_text(
    model: MiniMindForCausalLM,
    prompts: Sequence[Sequence[int]],
    rows: int,
    length: int,
    progress: Progress | None = None,
) -> torch.Tensor:
    """Let a model write text, sampled behind prompts by turns.

    It goes on behind the end of an answer: a chat model opens the next turn itself.

    Args:
        model: In eval mode, with finite logits.
        prompts: Token ids, at least one prompt of at least one token.
        rows: Texts.
        length: Tokens of each text, its prompt included.
        progress: Called with a stage's name and the share that is done.

    Returns:
        [rows, length] int64, the same for the same model each time.
    """
    tell = progress or (lambda stage, done: None)
    most = max(1, int(length * MOST_PROMPT))
    begun = [list(prompt[:most]) for prompt in itertools.islice(itertools.cycle(prompts), rows)]
    sampler = Sampler(SAMPLING)
    width = max(map(len, begun))
    step = torch.tensor([[0] * (width - len(row)) + row for row in begun])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in begun])
    past = None
    missing = length - min(map(len, begun))
    for done in range(missing):
        output = model(step, attention_mask=mask, past_key_values=past, use_cache=True, logits_to_keep=1)
        tokens = sampler(output.logits[:, -1].numpy())
        past, step = output.past_key_values, torch.from_numpy(tokens)[:, None]
        mask = torch.cat((mask, mask.new_ones(rows, 1)), dim=1)
        for row, token in zip(begun, tokens.tolist(), strict=True):
            row.append(token)
        tell("writing calibration text", done / missing)
    return torch.tensor([row[:length] for row in begun])
