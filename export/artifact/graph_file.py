"""What the graphs of an artifact are called."""

from __future__ import annotations

GRAPH_FILE = {
    "fp32": "onnx/model.onnx",
    "fp16": "onnx/model_fp16.onnx",
    "bf16": "onnx/model_bf16.onnx",
    "int8": "onnx/model_q8.onnx",
    "int4": "onnx/model_q4.onnx",
}

TRANSFORMERS_JS_Q8 = "onnx/model_quantized.onnx"
"""What transformers.js calls int8, in the one target that it loads."""

INT8_CACHE = "_kv8"
"""Ends the name of a graph whose cache is int8, behind the precision's own suffix."""


def graph_file(target: str, precision: str, kv_cache: str = "float") -> str:
    """A graph's place in its artifact."""
    file = TRANSFORMERS_JS_Q8 if (target, precision) == ("portable", "int8") else GRAPH_FILE[precision]
    return file if kv_cache == "float" else file.replace(".onnx", f"{INT8_CACHE}.onnx")
