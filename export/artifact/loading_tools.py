"""The tools that load a graph of an artifact without any further settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .hf_config import stock_model_type

if TYPE_CHECKING:
    from minimind_edge.minimind.config import MiniMindConfig

RUN = "minimind-run"
ENGINE = "minimind-export engine"
GENAI = "onnxruntime-genai"
OPTIMUM = "optimum"
TRANSFORMERS_JS = "transformers.js"

HUGGING_FACE_TOOLS = (OPTIMUM, TRANSFORMERS_JS)
"""The tools that look at the `model_type` in `config.json`, and know only the stock types of transformers."""

TOOLS = {
    "portable": (RUN, GENAI, OPTIMUM, TRANSFORMERS_JS),
    "ort": (RUN, GENAI, OPTIMUM),
    "tensorrt": (ENGINE, RUN),
}
"""The tools that can run each target's graphs; the ONNX Runtime of transformers.js lacks the operators of `ort`."""


def loads_in(config: MiniMindConfig, target: str, precision: str, kv_cache: str = "float") -> tuple[str, ...]:
    """The tools that load the graph when they are given only the folder's name; tests/interop tries them all.

    Args:
        config: The architecture.
        target: `portable`, `ort` or `tensorrt`.
        precision: The precision of the graph.
        kv_cache: `float` or `int8`.
    """
    refused = set() if has_stock_type(config) else set(HUGGING_FACE_TOOLS)
    if has_own_head_dim(config):
        refused.add(OPTIMUM)
    if precision == "bf16":  # ONNX Runtime has no bfloat16 arithmetic on the CPU
        refused.add(RUN)
    if kv_cache == "int8":
        refused.add(OPTIMUM)  # no test has tried this combination
    elif target == "ort" and precision == "fp16":
        refused.add(OPTIMUM)  # it pads the rows of a batch on the left, which have lengths of their own in this graph
    return tuple(tool for tool in TOOLS[target] if tool not in refused)


def has_stock_type(config: MiniMindConfig) -> bool:
    """Whether a model type of transformers computes this architecture; there is none for MiniMind2 with experts."""
    return stock_model_type(config) != "minimind"


def has_own_head_dim(config: MiniMindConfig) -> bool:
    """Whether `head_dim` differs from `hidden_size / num_attention_heads`, the width that optimum assumes."""
    return config.head_dim * config.num_attention_heads != config.hidden_size
