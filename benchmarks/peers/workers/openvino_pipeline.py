"""The worker of OpenVINO GenAI: models by optimum-intel, generation and times by its `LLMPipeline`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import serving

WEIGHTS = {"int8": {"bits": 8}, "int4": {"bits": 4, "group_size": 64, "ratio": 1.0}}


def convert(source: Path, folder: Path, build: str) -> None:
    """Export with quantized weights, and with the tokenizer that the pipeline needs."""
    from openvino import save_model
    from openvino_tokenizers import convert_tokenizer
    from optimum.intel import OVModelForCausalLM, OVWeightQuantizationConfig
    from transformers import AutoTokenizer

    quantization = OVWeightQuantizationConfig(**WEIGHTS[build])
    OVModelForCausalLM.from_pretrained(source, export=True, quantization_config=quantization).save_pretrained(folder)
    parts = convert_tokenizer(AutoTokenizer.from_pretrained(source), with_detokenizer=True)
    for name, part in zip(("tokenizer", "detokenizer"), parts, strict=True):
        save_model(part, folder / f"openvino_{name}.xml")


class Pipeline:
    """An `LLMPipeline`; for logits, the same graph in OpenVINO itself."""

    def __init__(self, folder: Path, threads: int) -> None:
        import openvino_genai

        self._genai, self._folder, self._threads = openvino_genai, folder, threads
        self._pipeline = openvino_genai.LLMPipeline(str(folder), "CPU", INFERENCE_NUM_THREADS=threads)

    def generate(self, prompt: list[int], new_tokens: int) -> serving.Timing:
        """Generate greedily."""
        import openvino

        config = self._genai.GenerationConfig(max_new_tokens=new_tokens, ignore_eos=True, do_sample=False)
        metrics = self._pipeline.generate(openvino.Tensor(np.array([prompt])), config).perf_metrics
        steps = new_tokens - 1
        return serving.Timing(metrics.get_ttft().mean / 1e3, steps and metrics.get_tpot().mean * steps / 1e3)

    def logits(self, tokens: list[int]) -> Any:
        """The logits of all tokens, run one by one as in decoding."""
        import openvino

        options = {"INFERENCE_NUM_THREADS": self._threads}
        model = openvino.Core().compile_model(str(self._folder / "openvino_model.xml"), "CPU", options)
        request, rows = model.create_infer_request(), []
        for index, token in enumerate(tokens):
            inputs = {
                "input_ids": np.array([[token]]),
                "attention_mask": np.ones((1, index + 1), np.int64),
                "position_ids": np.array([[index]]),
                "beam_idx": np.zeros(1, np.int32),
            }
            rows.append(request.infer(inputs)["logits"][0, -1].copy())
        return rows


if __name__ == "__main__":
    serving.main(Pipeline, convert)
