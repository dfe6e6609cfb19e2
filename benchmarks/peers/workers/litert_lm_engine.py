"""The worker of LiteRT-LM: models by `litert-torch`, generation and times by its engine."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import serving
from endless import write_endless

RECIPES = {"fp32": "none", "int8": "dynamic_wi8_afp32", "int4": "dynamic_wi4_afp32"}
"""The exporter's recipes: int4 and int8 have one scale for each channel."""

PREFILL_LENGTHS = [128, 512]
"""The lengths that the exporter makes graphs for; a prompt runs in pieces of them."""

IMAGE_MODEL = "litert_torch.generative.export_hf.model_ext.bonsai_flux2.bonsai_flux2"
"""A module of the exporter for pictures that needs TensorFlow, which its package does not install."""

STEP = ("tokens", "input_pos", "mask")
"""The inputs of the graph of one step, next to its caches."""

MASKED = -1e9
"""The attention's bias where there is no token yet."""

WORD = " the"
"""A word of one token, of which prompts are made, since the engine takes text alone."""


def convert(source: Path, folder: Path, build: str) -> None:
    """Run the exporter, on a folder without the token that ends an answer."""
    image_model = ModuleType(IMAGE_MODEL)
    image_model.BonsaiFlux2 = object  # the base class of another
    sys.modules[IMAGE_MODEL] = image_model
    from litert_torch.generative.export_hf.export import export

    with tempfile.TemporaryDirectory() as temporary:
        endless = Path(temporary) / source.name
        write_endless(source, endless)
        export(
            str(endless),
            str(folder),
            prefill_lengths=PREFILL_LENGTHS,
            cache_length=serving.CONTEXT,
            quantization_recipe=RECIPES[build],
        )


class Engine:
    """An engine of LiteRT-LM; for logits, the same graph in LiteRT itself."""

    def __init__(self, folder: Path, threads: int) -> None:
        import litert_lm

        self._lm, self._path, self._threads = litert_lm, next(folder.glob("*.litertlm")), threads
        self._decode: Any = None
        backend = litert_lm.Backend.CPU(thread_count=threads)
        self._engine = litert_lm.Engine(
            str(self._path), backend, max_num_tokens=serving.CONTEXT, cache_dir=":nocache", enable_benchmark=True
        )

    def generate(self, prompt: list[int], new_tokens: int) -> serving.Timing:
        """Generate greedily after a text as long as the prompt."""
        sampler = self._lm.SamplerConfig(top_k=1, top_p=1.0, temperature=1.0)
        options = {"apply_prompt_template": False, "sampler_config": sampler, "max_output_tokens": new_tokens}
        with self._engine.create_session(**options) as session:
            session.run_prefill([self._text(len(prompt))])
            session.run_decode()
            info = session.get_benchmark_info()
        step = 1 / info.last_decode_tokens_per_second
        first = info.last_prefill_token_count / info.last_prefill_tokens_per_second + step
        return serving.Timing(first, step * (new_tokens - 1))

    def logits(self, tokens: list[int]) -> list[Any]:
        """The logits of all tokens, run one by one as in decoding."""
        decode = self._decode_graph()
        caches = {
            name: np.zeros(detail["shape"], detail["dtype"])
            for name, detail in decode.get_input_details().items()
            if name not in STEP
        }
        rows = []
        for position, token in enumerate(tokens):
            mask = np.full((1, 1, 1, serving.CONTEXT), MASKED, np.float32)
            mask[..., : position + 1] = 0
            step = (np.array([[token]], np.int32), np.array([position], np.int32), mask)
            caches = decode(**dict(zip(STEP, step, strict=True)), **caches)
            rows.append(caches.pop("logits").reshape(-1).copy())
        return rows

    def _decode_graph(self) -> Any:
        """The graph of one step, out of the engine's file."""
        if self._decode is None:
            from ai_edge_litert.interpreter import Interpreter
            from litert_lm_builder import unpack

            with tempfile.TemporaryDirectory() as folder:
                unpack(str(self._path), folder)
                graph = max(Path(folder).glob("*.tflite"), key=lambda path: path.stat().st_size).read_bytes()
            self._interpreter = Interpreter(model_content=graph, num_threads=self._threads)
            self._decode = self._interpreter.get_signature_runner("decode")
        return self._decode

    def _text(self, length: int) -> str:
        """A text of this many tokens."""
        text = WORD * length
        found = len(self._engine.tokenize(text))
        if found != length:
            raise RuntimeError(f"a text of {length} tokens got {found}")
        return text


if __name__ == "__main__":
    serving.main(Engine, convert)
