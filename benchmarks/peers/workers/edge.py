"""The worker of this project: its own export, session and decode loop."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import serving

SWITCH = "MINIMIND_EDGE_NATIVE"
"""The environment variable that switches this project's native operators off where it is 0."""


def convert(source: Path, folder: Path, build: str) -> None:
    """Export for ONNX Runtime at the precision that the build is named after."""
    from minimind_edge.export.pipeline import export_onnx
    from minimind_edge.export.quantization import QuantizationSettings
    from minimind_edge.export.request import ExportRequest

    in_haste = QuantizationSettings(rows=4, length=32, measured_rows=2, held_out_rows=1)
    settings = in_haste if serving.IN_HASTE in os.environ else QuantizationSettings()
    request = ExportRequest(
        checkpoint=source, output=folder, precision=build, verify=False, force=True, quantization=settings
    )
    export_onnx(request, lambda stage, done: None)


def graph_of(folder: Path) -> Path:
    """The graph of an artifact folder that holds one."""
    return next((folder / "onnx").glob("*.onnx"))


class Edge:
    """A session of this project's runtime."""

    def __init__(self, folder: Path, threads: int) -> None:
        from minimind_edge.runtime.load import load_session

        self._session = load_session(graph_of(folder), threads=threads, max_length=serving.CONTEXT)

    @property
    def operators(self) -> str:
        """Whose operators run the graph: `stock` or `native`."""
        return str(self._session.facts.operators)

    def generate(self, prompt: list[int], new_tokens: int) -> serving.Timing:
        """Generate greedily, by the decode loop that users run."""
        from minimind_edge.runtime.decode import generate
        from minimind_edge.runtime.sampling import SamplingParams

        generation = generate(self._session, [prompt], SamplingParams(greedy=True), new_tokens)
        for _ in generation:
            pass
        return serving.Timing(generation.timings.time_to_first_token_s, generation.timings.decode_s)

    def logits(self, tokens: list[int]) -> list[Any]:
        """The logits of all tokens, run one by one."""
        import numpy as np

        self._session.reset()
        ids = np.array(tokens, np.int64)
        rows = [self._session.prefill(ids[None, :1])[0].copy()]
        return rows + [self._session.decode(ids[index : index + 1])[0].copy() for index in range(1, len(ids))]


def load(folder: Path, threads: int) -> Edge:
    """Load a model for ONNX Runtime's own operators, whatever else is installed."""
    os.environ[SWITCH] = "0"
    return Edge(folder, threads)


if __name__ == "__main__":
    serving.main(load, convert)
