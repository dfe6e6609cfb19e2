"""From a model to an ONNX graph."""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import onnx_ir as ir

from ..errors import ExportError
from .block_weights import BlockWriter
from .decoder import DecoderGraph
from .dequantize import DequantizingWriter
from .dialect import Dialect
from .layers import check_activation
from .ort import OrtDialect
from .ort_int8_cache import Int8CacheDialect
from .passes import finishing_passes
from .portable import PortableDialect
from .precision import INTEGERS, check_int8_cache, check_precision, compute_dtype
from .quantize_qdq import QuantizingWriter
from .tensorrt import TensorRTDialect
from .writer import GraphWriter

if TYPE_CHECKING:
    from minimind_edge.minimind import MiniMindConfig, MiniMindForCausalLM

    from ..quantization import QuantizedMatrix
    from ..quantization.cache_scales import CacheScales

Progress = Callable[[str, float], None]

DIALECTS: dict[str, type[Dialect]] = {"portable": PortableDialect, "ort": OrtDialect, "tensorrt": TensorRTDialect}
KV_CACHE_PROPERTY = "minimind_edge.kv_cache"
IR_VERSIONS = {21: 10, 23: 11, 24: 12}
"""Version of the file format that came with an opset, for runtimes as old as the opset."""

WRITTEN = 0.9
"""Share of the time after which the nodes are there."""


def build_graph(
    model: MiniMindForCausalLM,
    target: str,
    precision: str,
    max_length: int,
    progress: Progress | None = None,
    *,
    quantized: Mapping[str, QuantizedMatrix] | None = None,
    cache_scales: Sequence[CacheScales] | None = None,
) -> ir.Model:
    """Write a model as an ONNX graph with a cache; its weights are read when the graph is saved.

    Args:
        model: In eval mode; it must not change before the graph is saved.
        target: `portable`, `ort` or `tensorrt`.
        precision: See `precision.PRECISIONS`; logits are float32 always.
        max_length: Most positions, in tokens, that the graph is to hold.
        progress: Called with a stage's name and the share of this work that is done, 0 to 1.
        quantized: Of the precisions of integers, but for target `tensorrt`, which rounds by itself: the weights as
            integers, by the names of their parameters.
        cache_scales: Of target `ort`: one for each layer makes the cache int8; None leaves it as the activations are.

    Raises:
        ExportError: A target or a precision that there is not, or a model that the target cannot hold.
        UsageError: The target does not come in the precision.
    """
    tell = progress or (lambda stage, done: None)
    check_precision(target, precision)
    if cache_scales is not None:
        check_int8_cache(target)
    dialect_type, dtype = DIALECTS[target], compute_dtype(target, precision)
    if max_length < 1:
        raise ExportError(f"max_length must be at least 1, found {max_length}")
    check_activation(model.config.hidden_act)
    tell("writing the graph's nodes", 0.0)
    writer = _writer(model, target, precision, quantized or {})
    step = dialect_type.inputs.of(model.config, dtype if cache_scales is None else ir.DataType.INT8)
    make: Callable[..., Dialect] = dialect_type
    if cache_scales is not None:
        make = functools.partial(Int8CacheDialect, scales=cache_scales)
    dialect = make(writer, model, step, max_length)
    layers = model.config.num_hidden_layers
    outputs = DecoderGraph(writer, model, dialect).write(
        lambda index: tell(f"layer {index + 1} of {layers}", WRITTEN * (index + 1) / layers)
    )
    graph = writer.finish("minimind", step.values(), outputs, dialect.opset)
    graph.doc_string = f"{model.config.generation} decoder with a key-value cache, target {target}, {precision}"
    result = ir.Model(
        graph,
        ir_version=IR_VERSIONS[dialect.opset],
        producer_name="minimind-edge",
        producer_version=importlib.metadata.version("minimind-edge"),
        metadata_props=_metadata(model.config, target, precision, max_length)
        | ({} if cache_scales is None else {KV_CACHE_PROPERTY: "int8"}),
    )
    tell("finishing the graph", WRITTEN)
    finishing_passes(target)(result)
    tell("graph", 1.0)
    return result


def _writer(
    model: MiniMindForCausalLM, target: str, precision: str, quantized: Mapping[str, QuantizedMatrix]
) -> GraphWriter:
    parameters, dtype = dict(model.named_parameters()), compute_dtype(target, precision)
    if precision not in INTEGERS:
        return GraphWriter(parameters, dtype)
    if target == "tensorrt":
        return QuantizingWriter(parameters, dtype, precision)
    return (BlockWriter if target == "ort" else DequantizingWriter)(parameters, dtype, quantized)


def _metadata(config: MiniMindConfig, target: str, precision: str, max_length: int) -> dict[str, str]:
    """What a runtime must know that has the graph and no folder around it."""
    stops = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    properties = {
        "target": target,
        "precision": precision,
        "max_length": str(max_length),
        "generation": config.generation,
        "eos_token_id": ",".join(str(stop) for stop in stops if stop is not None),
    }
    return {f"minimind_edge.{key}": value for key, value in properties.items()}
