"""Cost and gain of quantization: size, KL, top-1 agreement and perplexity of each precision.

    python benchmarks/quantization.py                                        # the bundled demo, on text that it writes
    python benchmarks/quantization.py CHECKPOINT --text FILE --text FILE     # on the first 1,024 tokens of each file

The graphs run in ONNX Runtime, as users run them, against the float32 model in PyTorch.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from minimind_edge.export.artifact.tokenizer_files import TokenizerFiles, find_tokenizer
from minimind_edge.export.bundled import bundled_checkpoint
from minimind_edge.export.graph import build_graph, save_graph
from minimind_edge.export.graph.onnx_file import weight_bytes
from minimind_edge.export.quantization import QuantizationSettings
from minimind_edge.export.quantization.calibration import calibration_prompts
from minimind_edge.export.quantization.quality import measure_quality
from minimind_edge.export.quantization.quantize import QuantizedModel, calibration_text, quantize_model
from minimind_edge.minimind import MiniMindForCausalLM, load_checkpoint

MAX_LENGTH = 2048
COLUMNS = ("variant", "text", "bytes", "bits_per_weight", "mean_kl", "top1_agreement", "perplexity")


def main() -> None:
    """Round, measure, and print one line for each variant and text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", nargs="?", type=Path, default=bundled_checkpoint(moe=False))
    parser.add_argument("--text", type=Path, action="append", default=[], help="a text file; repeatable")
    parser.add_argument("--tokens", type=int, default=1024, help="the number of tokens of each text")
    parser.add_argument(
        "--int8-share", type=float, nargs="*", default=[0.0, 0.05, 0.28, 0.5], help="int4's shares of eight bits"
    )
    parser.add_argument("--json", type=Path, help="write the results there")
    arguments = parser.parse_args()
    model = load_checkpoint(arguments.checkpoint)
    tokenizer = find_tokenizer(arguments.checkpoint, None)
    texts = {path.name: tokens_of(path, tokenizer, arguments.tokens) for path in arguments.text}
    print(" | ".join(COLUMNS))
    results = []
    for name, quantized, seconds in variants(model, tokenizer, arguments.int8_share):
        for row in measured(model, quantized, texts):
            results.append({"variant": name, "seconds": round(seconds, 1), **row})
            print(" | ".join(str(shortened(results[-1][column])) for column in COLUMNS), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def tokens_of(path: Path, tokenizer: TokenizerFiles | None, count: int) -> torch.Tensor:
    """The first tokens of a text, [1, count] int64."""
    if tokenizer is None:
        raise SystemExit("a text needs a tokenizer next to the checkpoint")
    text = path.read_text(encoding="utf-8", errors="replace")
    return torch.tensor(tokenizer.load().encode(text, add_special_tokens=False)[:count])[None]


def variants(
    model: MiniMindForCausalLM, tokenizer: TokenizerFiles | None, shares: list[float]
) -> Iterator[tuple[str, QuantizedModel, float]]:
    """Each precision and share of eight bits: its name, the rounded model, and the seconds of the rounding."""
    prompts = calibration_prompts(tokenizer, model.config.bos_token_id)
    text = calibration_text(model, "int4", prompts, QuantizationSettings(), lambda stage, done: None)
    wanted = [("int8", "int8", 0.0), *((f"int4, int8 share {share:g}", "int4", share) for share in shares)]
    for name, precision, share in wanted:
        started = time.perf_counter()
        quantized = quantize_model(model, precision, prompts, QuantizationSettings(int8_share=share), text=text)
        yield name, quantized, time.perf_counter() - started


def measured(
    model: MiniMindForCausalLM, quantized: QuantizedModel, texts: dict[str, torch.Tensor]
) -> Iterator[dict[str, Any]]:
    """The quality on each text; without one, on text that the model wrote and the rounding did not see."""
    with tempfile.TemporaryDirectory() as folder:
        graph = Path(folder) / "model.onnx"
        precision = "int4" if "int8_share" in quantized.calibration else "int8"
        built = build_graph(quantized.model, "ort", precision, MAX_LENGTH, quantized=quantized.matrices)
        bits = 8 * weight_bytes(built) / sum(weight.numel() for weight in model.parameters())
        save_graph(built, graph)
        for name, tokens in (texts or {"held out": quantized.held_out}).items():
            quality = measure_quality(model, graph, tokens)
            yield {"text": name, "bytes": graph.stat().st_size, "bits_per_weight": round(bits, 3), **quality}


def shortened(value: object) -> object:
    """A number in the form of the table."""
    return f"{value:.4g}" if isinstance(value, float) else value


if __name__ == "__main__":
    main()
