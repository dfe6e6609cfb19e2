"""The worker of llama.cpp, by llama-cpp-python: its own quantizer, and the shortest loop over its C interface."""

from __future__ import annotations

import ctypes
from pathlib import Path
from time import perf_counter

import llama_cpp
import numpy as np
import serving
from gguf_file import write_gguf

TYPES = {
    "F32": llama_cpp.LLAMA_FTYPE_ALL_F32,
    "Q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0,
    "Q4_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0,
    "Q4_K_M": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M,
}
"""The quantizer's types, by the names that its users know."""


def convert(source: Path, folder: Path, build: str) -> None:
    """Write a float32 GGUF, and have llama.cpp quantize it."""
    folder.mkdir(parents=True, exist_ok=True)
    path, exact = folder / "model.gguf", folder / "float32.gguf"
    write_gguf(source, path if build == "F32" else exact)
    if build != "F32":
        params = llama_cpp.llama_model_quantize_default_params()
        params.ftype = TYPES[build]
        if llama_cpp.llama_model_quantize(str(exact).encode(), str(path).encode(), ctypes.byref(params)):
            raise RuntimeError(f"llama.cpp could not quantize to {build}")
        exact.unlink()


class LlamaCpp:
    """A model and a context of llama.cpp."""

    def __init__(self, folder: Path, threads: int) -> None:
        llama_cpp.llama_backend_init()
        path = str(folder / "model.gguf").encode()
        self._model = llama_cpp.llama_model_load_from_file(path, llama_cpp.llama_model_default_params())
        if not self._model:
            raise RuntimeError("llama.cpp could not load the model")
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = serving.CONTEXT
        params.n_threads = params.n_threads_batch = threads
        self._context = llama_cpp.llama_init_from_model(self._model, params)
        self._vocab_size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self._model))

    def generate(self, prompt: list[int], new_tokens: int) -> serving.Timing:
        """Generate greedily."""
        started = perf_counter()
        self._clear()
        token = int(self._decode(prompt).argmax())
        first = perf_counter()
        for _ in range(new_tokens - 1):
            token = int(self._decode([token]).argmax())
        return serving.Timing(first - started, perf_counter() - first)

    def logits(self, tokens: list[int]) -> list[np.ndarray]:
        """The logits of all tokens, run one by one."""
        self._clear()
        return [self._decode([token]).copy() for token in tokens]

    def _clear(self) -> None:
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), False)

    def _decode(self, tokens: list[int]) -> np.ndarray:
        """Append tokens; return the logits after the last one, [V], valid until the next call."""
        array = (llama_cpp.llama_token * len(tokens))(*tokens)
        if llama_cpp.llama_decode(self._context, llama_cpp.llama_batch_get_one(array, len(tokens))):
            raise RuntimeError("llama.cpp could not decode")
        return np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(self._context, -1), (self._vocab_size,))


if __name__ == "__main__":
    serving.main(LlamaCpp, convert)
