"""The worker of ExecuTorch: its own export of language models for XNNPACK, and the shortest loop over its module."""

from __future__ import annotations

import json
import runpy
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import serving
import torch

OPTIONS = {
    "fp32": (),
    "int8": ("quantization.pt2e_quantize=xnnpack_dynamic",),
    "8da4w": (
        "quantization.qmode=8da4w",
        "quantization.group_size=128",
        "quantization.embedding_quantize='8,0'",
    ),
}
"""The exporter's options of each build; `8da4w` has 4-bit weights in the head as well."""

FASTEST = (
    "model.use_kv_cache=true",
    "model.use_sdpa_with_kv_cache=true",
    "model.enable_dynamic_shape=true",
    "backend.xnnpack.enabled=true",
    "backend.xnnpack.extended_ops=true",
)

ARCHITECTURES = {"llama": "llama2", "qwen3": "qwen3_0_6b"}
"""The exporter's model classes, for Hugging Face's types."""


def convert(source: Path, folder: Path, build: str) -> None:
    """Rename the weights with ExecuTorch's own tool, and export them."""
    from executorch.examples.models.qwen3.convert_weights import convert_weights

    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    architecture = ARCHITECTURES.get(config["model_type"])
    if architecture is None:
        raise SystemExit(f"its exporter has no model class for {config['model_type']}")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        weights, params = Path(temporary) / "weights.pth", Path(temporary) / "params.json"
        convert_weights(str(source), str(weights))
        params.write_text(json.dumps(parameters(config)), encoding="utf-8")
        sys.argv = [
            "export_llm",
            f"base.model_class={architecture}",
            f"base.checkpoint={weights}",
            f"base.params={params}",
            f"export.max_seq_length={serving.CONTEXT}",
            f"export.max_context_length={serving.CONTEXT}",
            f"export.output_dir={temporary}",
            f"export.output_name={folder / 'model.pte'}",
            f"hydra.run.dir={temporary}",
            *FASTEST,
            *OPTIONS[build],
        ]
        runpy.run_module("executorch.extension.llm.export.export_llm", run_name="__main__")
    if not (folder / "model.pte").is_file():  # it only logs that
        raise SystemExit("its exporter wrote no model")


def parameters(config: dict[str, Any]) -> dict[str, Any]:
    """The exporter's parameters of an architecture, from Hugging Face's configuration."""
    rope = config.get("rope_parameters") or config
    heads = config["num_attention_heads"]
    is_qwen = config["model_type"] == "qwen3"
    return {
        "dim": config["hidden_size"],
        "n_layers": config["num_hidden_layers"],
        "n_heads": heads,
        "n_kv_heads": config["num_key_value_heads"],
        "head_dim": config.get("head_dim") or config["hidden_size"] // heads,
        "hidden_dim": config["intermediate_size"],
        "vocab_size": config["vocab_size"],
        "norm_eps": config["rms_norm_eps"],
        "rope_theta": rope["rope_theta"],
        "use_scaled_rope": False,
        "use_hf_rope": True,
        "use_qk_norm": is_qwen,
        "qk_norm_before_rope": is_qwen,
    }


class Module:
    """An exported module with its key-value cache inside."""

    def __init__(self, folder: Path, threads: int) -> None:
        import executorch.extension.llm.custom_ops.custom_ops  # the kernels of attention
        import executorch.kernels.quantized  # noqa: F401 - those of an embedding of 8 bits
        from executorch.extension.pybindings import portable_lib

        torch.set_num_threads(threads)
        portable_lib._unsafe_reset_threadpool(threads)
        self._module = portable_lib._load_for_executorch(str(folder / "model.pte"))

    def generate(self, prompt: list[int], new_tokens: int) -> serving.Timing:
        """Generate greedily."""
        started = perf_counter()
        token = int(self._forward(prompt, 0).argmax())
        first = perf_counter()
        for position in range(len(prompt), len(prompt) + new_tokens - 1):
            token = int(self._forward([token], position).argmax())
        return serving.Timing(first - started, perf_counter() - first)

    def logits(self, tokens: list[int]) -> list[Any]:
        """The logits of all tokens, run one by one, as the module gives the last one's only."""
        return [self._forward([token], position).numpy().copy() for position, token in enumerate(tokens)]

    def _forward(self, tokens: list[int], position: int) -> torch.Tensor:
        """Run tokens from a position on; return the logits after the last one, [V], valid until the next call."""
        inputs = (torch.tensor([tokens]), torch.tensor([position]))
        return self._module.forward(inputs, clone_outputs=False)[0].reshape(-1)


if __name__ == "__main__":
    serving.main(Module, convert)
