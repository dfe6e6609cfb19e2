"""The worker of MNN, from its wheel or built from source: models by `llmexport`, generation by its own loop."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import serving
from endless import write_endless

OPTIONS = {
    "int8": ("--quant_bit", "8", "--quant_block", "0"),
    "int4": ("--quant_bit", "4", "--quant_block", "128", "--lm_quant_bit", "8"),
}
"""The exporter's options of each build: int8 by channel, and int4 in blocks of 128 with an int8 head."""

SETTINGS = {"sampler_type": "greedy", "precision": "low", "memory": "low", "use_mmap": False}


def convert(source: Path, folder: Path, build: str) -> None:
    """Run the exporter, on a folder without the token that ends an answer."""
    exporter = Path(importlib.util.find_spec("llmexport").origin).parent
    sys.path.insert(0, str(exporter))
    sys.modules["MNN.tools.utils.log"] = None  # it would install a package, and send statistics
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        endless = Path(temporary) / source.name
        write_endless(source, endless)
        os.chdir(temporary)  # where it writes its log
        paths = ["--path", str(endless), "--dst_path", str(folder)]
        sys.argv = ["llmexport", *paths, "--export", "mnn", *OPTIONS[build]]
        importlib.import_module("llmexport").main()
        os.chdir(folder)
    if not (folder / "config.json").is_file():
        raise SystemExit("its exporter wrote no model")
    for path in folder.glob("*.json"):
        if path.name.startswith("llm.mnn"):
            path.unlink()  # the graph as text, which is not read


class Llm:
    """A model of MNN's engine for language models."""

    def __init__(self, folder: Path, threads: int) -> None:
        import _mnncengine  # the wheel's package `MNN` adds nothing to it that is needed here

        self._llm = _mnncengine.llm.create(str(folder / "config.json"), False)
        self._llm.set_config(json.dumps(SETTINGS | {"thread_num": threads}))
        self._llm.load()

    def generate(self, prompt: list[int], new_tokens: int) -> serving.Timing:
        """Generate greedily, by the engine's own loop, which runs one step more than it needs."""
        self._llm.reset()
        self._llm.generate_init(None, None)
        steps, started = new_tokens - 1, perf_counter()
        tokens = self._llm.generate(prompt, new_tokens if steps else 0)
        seconds = perf_counter() - started
        first = self._llm.get_context()["prefill_us"] / 1e6
        if steps and len(tokens) != new_tokens:
            raise RuntimeError(f"MNN gave {len(tokens)} tokens instead of {new_tokens}")
        return serving.Timing(first, (seconds - first) * steps / new_tokens)

    def logits(self, tokens: list[int]) -> list[Any]:
        """The logits of all tokens, run one by one."""
        self._llm.reset()
        self._llm.generate_init(None, None)
        return [self._llm.forward([token]).read().reshape(-1).copy() for token in tokens]


if __name__ == "__main__":
    serving.main(Llm, convert)
