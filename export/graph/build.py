"""From a model to an ONNX graph."""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import onnx_ir as ir

from minimind_edge.minimind.stock import require_stock
from minimind_edge.runtime.session.contract import CACHE_PROPERTY, METADATA_PREFIX, OPTIONAL_INPUTS_PROPERTY

from ..errors import ExportError
from ..progress import Progress, silent
from .decoder import DecoderGraph
from .dialect import Dialect, GraphInputs
from .layers import check_activation
from .ort import HEAD_DIM_MULTIPLE, OrtDialect
from .ort_int8_cache import Int8CacheDialect
from .ort_rows import RowsDialect
from .passes import finishing_passes
from .portable import PortableDialect
from .precision import INTEGERS, check_int8_cache, check_precision, compute_dtype
from .quantized_weights import BlockWriter, DequantizingWriter
from .tensorrt import TensorRTDialect
from .writer import GraphWriter

if TYPE_CHECKING:
    from minimind_edge.minimind import MiniMindConfig, MiniMindForCausalLM

    from ..quantization import QuantizedMatrix
    from ..quantization.kv_cache_scales import CacheScales

DIALECTS: dict[str, type[Dialect]] = {"portable": PortableDialect, "ort": OrtDialect, "tensorrt": TensorRTDialect}
KV_CACHE_PROPERTY = f"{METADATA_PREFIX}kv_cache"
IR_VERSIONS = {21: 10, 23: 11, 24: 12}
"""The version of the ONNX file format that was released with each opset, so that a runtime as old as the opset can read
the graph."""

WRITTEN = 0.9
"""The share of this work's time that has passed when the nodes are written."""


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
        model: The model, in eval mode; it must not change before the graph is saved.
        target: `portable`, `ort` or `tensorrt`.
        precision: See `precision.PRECISIONS`; logits are float32 always.
        max_length: The largest number of positions that the graph is to hold, in tokens.
        progress: Called with a stage's name and the share of this work that is done, 0 to 1.
        quantized: The weights as integers, by the names of their parameters, for precisions int8 and int4.
        cache_scales: The scales of each layer, which make target `ort`'s cache int8; None for a cache of floats.

    Raises:
        ExportError: There is no such target or precision, or the target cannot hold the model.
        UsageError: The target does not come in the precision.
        ConfigError: The model is not the stock one, see `require_stock`.
    """
    require_stock(model)
    tell = progress or silent
    check_precision(target, precision)
    if cache_scales is not None:
        check_int8_cache(target)
    dtype = compute_dtype(target, precision)
    takes_rows = target == "ort" and dtype == ir.DataType.FLOAT16 and cache_scales is None
    dialect_type = RowsDialect if takes_rows else DIALECTS[target]
    if max_length < 1:
        raise ExportError(f"max_length must be at least 1, found {max_length}")
    check_model(model.config, target)
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
    graph = writer.finish("minimind", step.values(), outputs, dialect.opset, step.optional())
    graph.doc_string = f"{model.config.generation} decoder with a key-value cache, target {target}, {precision}"
    result = ir.Model(
        graph,
        ir_version=IR_VERSIONS[dialect.opset],
        producer_name="minimind-edge",
        producer_version=importlib.metadata.version("minimind-edge"),
        metadata_props=_metadata(model.config, target, precision, max_length)
        | ({} if cache_scales is None else {KV_CACHE_PROPERTY: "int8"})
        | ({} if dialect.cache is None else {CACHE_PROPERTY: dialect.cache})
        | _optional_inputs(step),
    )
    tell("finishing the graph", WRITTEN)
    finishing_passes(target)(result)
    tell("graph", 1.0)
    return result


def check_model(config: MiniMindConfig, target: str) -> None:
    """Check that a target can hold a model, before anything costly is done for it.

    Raises:
        ExportError: The target cannot hold the model.
    """
    check_activation(config.hidden_act)
    if target == "ort" and not fits_ort(config):
        raise ExportError(
            f"target ort takes a head_dim that is a multiple of {HEAD_DIM_MULTIPLE}, found {config.head_dim}; "
            "export with --target portable"
        )


def default_target(config: MiniMindConfig) -> str:
    """The target of a model that is exported without one: `ort`, or `portable` where that cannot hold it."""
    return "ort" if fits_ort(config) else "portable"


def fits_ort(config: MiniMindConfig) -> bool:
    """Whether ONNX Runtime's fused attention supports the width of the model's heads."""
    return config.head_dim % HEAD_DIM_MULTIPLE == 0


def _writer(
    model: MiniMindForCausalLM, target: str, precision: str, quantized: Mapping[str, QuantizedMatrix]
) -> GraphWriter:
    parameters, dtype = dict(model.named_parameters()), compute_dtype(target, precision)
    if precision not in INTEGERS:
        return GraphWriter(parameters, dtype)
    if target == "ort":
        return BlockWriter(parameters, dtype, quantized)
    return DequantizingWriter(parameters, dtype, quantized, per_channel=target == "tensorrt")


def _metadata(config: MiniMindConfig, target: str, precision: str, max_length: int) -> dict[str, str]:
    """The metadata that a runtime needs when it has only the graph, without the artifact's folder."""
    stops = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    properties = {
        "target": target,
        "precision": precision,
        "max_length": str(max_length),
        "generation": config.generation,
        "eos_token_id": ",".join(str(stop) for stop in stops if stop is not None),
    }
    return {f"{METADATA_PREFIX}{key}": value for key, value in properties.items()}


def _optional_inputs(step: GraphInputs) -> dict[str, str]:
    """The metadata that names the graph's optional inputs; none where it has none."""
    names = ",".join(str(value.name) for value in step.optional())
    return {OPTIONAL_INPUTS_PROPERTY: names} if names else {}
