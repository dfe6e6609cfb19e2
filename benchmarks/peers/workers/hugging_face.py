"""The runner for models with Hugging Face's `generate()`, timed token by token."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import serving
import torch


class Stopwatch:
    """A streamer for `generate()` that records the time of each token."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, value: torch.Tensor) -> None:
        """Record the time; the first call brings the prompt."""
        self.times.append(perf_counter())

    def end(self) -> None:
        """Do nothing, as all times are recorded."""


class HuggingFace:
    """A model with `generate()`."""

    def __init__(self, model: Any, threads: int) -> None:
        torch.set_num_threads(threads)
        self._model = model

    def generate(self, prompt: list[int], new_tokens: int) -> serving.Timing:
        """Generate greedily."""
        ids, stopwatch = torch.tensor([prompt]), Stopwatch()
        lengths = {"min_new_tokens": new_tokens, "max_new_tokens": new_tokens}
        started = perf_counter()
        mask = torch.ones_like(ids)
        with torch.inference_mode():
            self._model.generate(ids, attention_mask=mask, do_sample=False, streamer=stopwatch, **SILENT, **lengths)
        first, last = stopwatch.times[1], stopwatch.times[-1]
        return serving.Timing(first - started, last - first)

    def logits(self, tokens: list[int]) -> Any:
        """The logits of all tokens, from one pass."""
        ids = torch.tensor([tokens])
        with torch.inference_mode():
            return self._model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0].float().numpy()


SILENT = {"temperature": None, "top_p": None, "top_k": None, "pad_token_id": 0}
"""The sampling options of the folder's own `generation_config.json` that greedy decoding warns about, all unset."""
