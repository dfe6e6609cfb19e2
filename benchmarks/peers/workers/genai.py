"""The worker of onnxruntime-genai: models by its own builder, generation by its own loop."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import serving

OPTIONS = {
    "fp32": ("fp32", ()),
    "int8": ("int8", ()),
    "int4": ("int4", ()),
    "int4-mixed": (
        "int4",
        ("algo_config=k_quant", "is_symmetric=false", "matmul_mixed_precision=last_matmul:int8,mixed_layers:int8"),
    ),
}
"""The precision and options of each build: `int4` is the builder's fastest, `int4-mixed` its most accurate."""

FASTEST = ("fuse_mlp_gate_up=true", "prune_lm_head=true")


def convert(source: Path, folder: Path, build: str) -> None:
    """Run the builder."""
    precision, options = OPTIONS[build]
    with tempfile.TemporaryDirectory() as cache:
        command = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-i", str(source), "-o", str(folder)]
        command += ["-p", precision, "-e", "cpu", "-c", cache, "--extra_options", *FASTEST, *options]
        status = subprocess.run(command, check=False).returncode
    if status:
        raise SystemExit(status)  # without a traceback, so that the builder's own last line becomes the reason


class Genai:
    """A model of onnxruntime-genai."""

    def __init__(self, folder: Path, threads: int) -> None:
        import onnxruntime_genai

        self._genai = onnxruntime_genai
        config = onnxruntime_genai.Config(str(folder))
        options = {"intra_op_num_threads": threads}
        config.overlay(json.dumps({"model": {"decoder": {"session_options": options}}}))
        self._model = onnxruntime_genai.Model(config)

    def generate(self, prompt: list[int], new_tokens: int) -> serving.Timing:
        """Generate greedily."""
        started = perf_counter()
        generator = self._generator(len(prompt) + new_tokens)
        generator.append_tokens(prompt)
        generator.generate_next_token()
        first = perf_counter()
        for _ in range(new_tokens - 1):
            generator.generate_next_token()
        return serving.Timing(first - started, perf_counter() - first)

    def logits(self, tokens: list[int]) -> list[Any]:
        """The logits of all tokens, run one by one, as the graph gives the last one's only."""
        generator, rows = self._generator(serving.CONTEXT), []
        for token in tokens:
            generator.append_tokens([token])
            rows.append(generator.get_logits().reshape(-1).copy())
        return rows

    def _generator(self, length: int) -> Any:
        params = self._genai.GeneratorParams(self._model)
        params.set_search_options(do_sample=False, max_length=serving.CONTEXT, min_length=length)
        return self._genai.Generator(self._model, params)


if __name__ == "__main__":
    serving.main(Genai, convert)
