"""The worker of onnxruntime alone on this project's graph: the shortest possible loop.

It shows how much of a step's time is the graph's own. One buffer for past and present, all values bound once, greedy,
no checks. The graph is loaded as the project's runtime loads it, its optional inputs included.
"""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import onnxruntime
import serving
from edge import graph_of

from minimind_edge.runtime.ort.in_memory import graph_in_memory
from minimind_edge.runtime.ort.loading import WEIGHTS_FOLDER


class BareLoop:
    """An `InferenceSession` with an `IOBinding`."""

    def __init__(self, folder: Path, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        graph = graph_in_memory(graph_of(folder))
        assert graph is not None
        options.add_session_config_entry(WEIGHTS_FOLDER, str(graph.folder))
        self._session = onnxruntime.InferenceSession(graph.message, options, ["CPUExecutionProvider"])
        self._binding = self._session.io_binding()
        self._inputs = {node.name for node in self._session.get_inputs()}
        self._arrays = []
        last = onnxruntime.OrtValue.ortvalue_from_numpy(np.array([-1]))
        self._binding.bind_ortvalue_input("logits_start", last)
        for node in self._session.get_inputs():
            if node.name.startswith("past_key_values."):
                self._bind_cache(node)

    def generate(self, prompt: list[int], new_tokens: int) -> serving.Timing:
        """Generate greedily."""
        started = perf_counter()
        token = self._run(np.array([prompt]), 0)
        first = perf_counter()
        for length in range(len(prompt), len(prompt) + new_tokens - 1):
            token = self._run(token, length)
        return serving.Timing(first - started, perf_counter() - first)

    def logits(self, tokens: list[int]) -> list[Any]:
        """Never called: the project's own rows have the same graph."""
        raise NotImplementedError("it runs this project's graph, which has rows of its own")

    def _bind_cache(self, node: Any) -> None:
        cache = np.zeros((1, node.shape[1], serving.CONTEXT, node.shape[3]), np.float32)
        self._arrays.append(cache)
        value = onnxruntime.OrtValue.ortvalue_from_numpy(cache)
        self._binding.bind_ortvalue_input(node.name, value)
        self._binding.bind_ortvalue_output(node.name.replace("past_key_values", "present"), value)

    def _run(self, ids: np.ndarray, past: int) -> np.ndarray:
        """Run tokens [1, S] after a past, and return the next one, [1, 1]."""
        length = ids.shape[1]
        self._binding.bind_cpu_input("input_ids", ids)
        self._binding.bind_cpu_input("attention_mask", np.ones((1, past + length), np.int64))
        if "position_ids" in self._inputs:
            self._binding.bind_cpu_input("position_ids", np.arange(past, past + length)[None])
        self._binding.bind_output("logits")
        self._session.run_with_iobinding(self._binding)
        return self._binding.get_outputs()[-1].numpy()[:, -1:].argmax(-1)


if __name__ == "__main__":
    serving.main(BareLoop)
