"""The worker of eager PyTorch: this project's own model, which is also the reference of all contenders."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import Any

import serving
import torch


class Eager:
    """The float32 model, run with one forward pass for each token."""

    def __init__(self, folder: Path, threads: int) -> None:
        from minimind_edge.minimind import load_checkpoint

        torch.set_num_threads(threads)
        self._model = load_checkpoint(folder)

    @torch.inference_mode()
    def generate(self, prompt: list[int], new_tokens: int) -> serving.Timing:
        """Generate greedily."""
        started = perf_counter()
        token, past = self._step(torch.tensor([prompt]), None)
        first = perf_counter()
        for _ in range(new_tokens - 1):
            token, past = self._step(token, past)
        return serving.Timing(first - started, perf_counter() - first)

    @torch.inference_mode()
    def logits(self, tokens: list[int]) -> Any:
        """The logits of all tokens, from one pass."""
        return self._model(torch.tensor([tokens])).logits[0].numpy()

    def _step(self, ids: torch.Tensor, past: Any) -> tuple[torch.Tensor, Any]:
        output = self._model(ids, past_key_values=past, use_cache=True, logits_to_keep=1)
        return output.logits.argmax(-1), output.past_key_values


if __name__ == "__main__":
    serving.main(Eager)
