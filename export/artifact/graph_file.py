"""The file names of an artifact's graphs."""

from __future__ import annotations

GRAPH_FILE = {
    "fp32": "onnx/model.onnx",
    "fp16": "onnx/model_fp16.onnx",
    "bf16": "onnx/model_bf16.onnx",
    "int8": "onnx/model_q8.onnx",
    "int4": "onnx/model_q4.onnx",
}

TRANSFORMERS_JS_Q8 = "onnx/model_quantized.onnx"
"""The file name by which transformers.js finds an int8 graph, in the one target that it loads."""

INT8_CACHE = "_kv8"
"""The suffix of a graph whose KV cache is int8; it follows the precision's own suffix."""


def graph_file(target: str, precision: str, kv_cache: str = "float") -> str:
    """The path of a graph, relative to its artifact folder."""
    file = TRANSFORMERS_JS_Q8 if (target, precision) == ("portable", "int8") else GRAPH_FILE[precision]
    return file if kv_cache == "float" else file.replace(".onnx", f"{INT8_CACHE}.onnx")
