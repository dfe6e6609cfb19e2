"""Which tools load a graph of an artifact as it is."""

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
"""They choose what to do by the `model_type` in `config.json`, and know stock types alone."""

TOOLS = {
    "portable": (RUN, GENAI, OPTIMUM, TRANSFORMERS_JS),
    "ort": (RUN, GENAI, OPTIMUM),
    "tensorrt": (ENGINE, RUN),
}
"""By target. The ONNX Runtime of transformers.js is older than `ort`'s operators."""


def loads_in(config: MiniMindConfig, target: str, precision: str, kv_cache: str = "float") -> tuple[str, ...]:
    """The tools that load the graph with nothing said but the folder's name; tests/interop tries them all.

    Args:
        config: The architecture.
        target: `portable`, `ort` or `tensorrt`.
        precision: Of the graph.
        kv_cache: `float` or `int8`.
    """
    refused = set() if has_stock_type(config) else set(HUGGING_FACE_TOOLS)
    if has_own_head_dim(config):
        refused.add(OPTIMUM)
    if precision == "bf16":  # ONNX Runtime has no bfloat16 arithmetic on the CPU
        refused.add(RUN)
    if kv_cache == "int8":
        refused.add(OPTIMUM)  # not tried
    return tuple(tool for tool in TOOLS[target] if tool not in refused)


def has_stock_type(config: MiniMindConfig) -> bool:
    """Whether transformers has this architecture under a name of its own; MiniMind2 with experts it has not."""
    return stock_model_type(config) != "minimind"


def has_own_head_dim(config: MiniMindConfig) -> bool:
    """Whether heads are wider or narrower than `hidden_size / num_attention_heads`, which optimum takes them to be."""
    return config.head_dim * config.num_attention_heads != config.hidden_size
