"""A graph of target `tensorrt`, made ready for the parser in memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from minimind_edge.runtime.session.contract import INPUTS, METADATA_PREFIX, cache_names
from minimind_edge.runtime.tensorrt.plan import EXPERTS_SUFFIX, CacheLayout

from ..errors import ExportError

KV_CAPACITY = "kv_capacity"
"""Name of the axis that the engine builder replaces by a number: TensorScatter takes a fixed one only."""

DECOMPOSABLE = "TRT_decomposable"
"""Attribute of TensorRT's own that lets `Attention` be taken apart where there is no fused kernel for it, as in float32
or for heads as narrow as 4; where there is one, it is used all the same."""

CACHE_TYPES = {
    onnx.TensorProto.FLOAT: "float32",
    onnx.TensorProto.FLOAT16: "float16",
    onnx.TensorProto.BFLOAT16: "bfloat16",
}

GROWING_INPUTS = ("input_ids", "attention_mask", "position_ids", "last_index")
OWN_INPUTS = {"static": INPUTS["tensorrt"], "growing": GROWING_INPUTS}
"""What each form of the graph is given beside the cache."""


@dataclass(frozen=True)
class EngineGraph:
    """A decoder graph that plans are built from.

    Attributes:
        path: Its file; weights may lie beside it.
        model: The graph without those weights.
        cache_form: `static` (written in place) or `growing`.
        cache: Sizes of the cache; its `capacity` is the most that the graph can hold.
        vocab_size: V.
    """

    path: Path
    model: onnx.ModelProto
    cache_form: str
    cache: CacheLayout
    vocab_size: int

    @classmethod
    def read(cls, path: Path) -> EngineGraph:
        """Read a graph and check that the builder can take it.

        Raises:
            ExportError: It is no graph, or one of another target.
        """
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

        try:
            model = onnx.load(str(path), load_external_data=False)
        except DecodeError as error:
            raise ExportError(f"{path} is no ONNX graph: {error}") from error
        properties = {each.key: each.value for each in model.metadata_props}
        inputs = {each.name: each for each in model.graph.input}
        form = _form(path, properties, inputs)
        layers = sum(name.endswith(".key") for name in inputs)
        if not layers or not set(cache_names("past_key_values", layers)) <= inputs.keys():
            raise ExportError(f"{path} has no past_key_values; export the checkpoint again")
        tensor = inputs["past_key_values.0.key"].type.tensor_type
        dims = tensor.shape.dim
        cache = CacheLayout(
            num_layers=layers,
            num_key_value_heads=dims[1].dim_value,
            head_dim=dims[3].dim_value,
            capacity=int(properties.get(f"{METADATA_PREFIX}max_length", 0)),
            dtype=CACHE_TYPES.get(tensor.elem_type, "unknown"),
        )
        if cache.dtype == "unknown" or min(cache.num_key_value_heads, cache.head_dim, cache.capacity) < 1:
            raise ExportError(f"{path} lacks the sizes of its cache; export the checkpoint again")
        return cls(path, model, form, cache, model.graph.output[0].type.tensor_type.shape.dim[-1].dim_value)

    @property
    def precision(self) -> str:
        """Of the weights."""
        return self.property("precision") or {"float32": "fp32", "float16": "fp16"}.get(self.cache.dtype, "bf16")

    @property
    def opset(self) -> int:
        """Version of the standard operators."""
        return next((each.version for each in self.model.opset_import if not each.domain), 0)

    @property
    def eos_token_ids(self) -> list[int]:
        """Ids that end a text."""
        return [int(part) for part in (self.property("eos_token_id") or "").split(",") if part]

    def property(self, key: str) -> str | None:
        """A property of the graph's own."""
        return next((each.value for each in self.model.metadata_props if each.key == METADATA_PREFIX + key), None)

    def cache_of(self, capacity: int) -> CacheLayout:
        """The cache with another number of slots."""
        return replace(self.cache, capacity=capacity)

    def stored_types(self) -> set[int]:
        """Element types of the weights."""
        return {each.data_type for each in self.model.graph.initializer}

    def expert_names(self) -> list[str]:
        """Values that hold the experts chosen, one a layer; none in a dense model."""
        return [name for node in self.model.graph.node for name in node.output if name.endswith(EXPERTS_SUFFIX)]

    def for_parser(self, capacity: int) -> bytes:
        """The graph with `capacity` cache slots written in; weights that lie beside it stay there.

        The experts chosen become outputs: without them nobody could tell whether a plan that differs from eager took
        another route, as a rounded number may, or computes something else.

        Args:
            capacity: Slots of a row; a growing cache has its bounds in the profiles alone.
        """
        ready = onnx.ModelProto()
        ready.CopyFrom(self.model)
        for value in (*ready.graph.input, *ready.graph.output, *ready.graph.value_info):
            for dim in value.type.tensor_type.shape.dim:
                if dim.dim_param == KV_CAPACITY:
                    dim.dim_value = capacity
        for node in ready.graph.node:
            if node.op_type == "Attention":
                node.attribute.append(onnx.helper.make_attribute(DECOMPOSABLE, 1))
        experts = self.expert_names()
        ready.graph.output.extend(
            onnx.helper.make_tensor_value_info(each, onnx.TensorProto.INT64, None) for each in experts
        )
        return bytes(ready.SerializeToString())


def _form(path: Path, properties: dict[str, str], inputs: dict[str, onnx.ValueInfoProto]) -> str:
    target = properties.get(f"{METADATA_PREFIX}target")
    form = properties.get(f"{METADATA_PREFIX}cache", "static")
    if target != "tensorrt" or not set(OWN_INPUTS.get(form, ("unknown",))) <= inputs.keys():
        raise ExportError(
            f"{path} is for target {target}, expected tensorrt: export the checkpoint with "
            "`minimind-export onnx --target tensorrt`, or name the checkpoint itself"
        )
    return form
