"""The graph of target `tensorrt` that a plan is built from: read, checked, and made ready for TensorRT's parser."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from minimind_edge.runtime.session.contract import INPUTS, METADATA_PREFIX, cache_names
from minimind_edge.runtime.tensorrt.plan import EXPERTS_SUFFIX, CacheLayout

from ..errors import ExportError

KV_CAPACITY = "kv_capacity"
"""Name of the cache's symbolic axis, replaced by a number: `TensorScatter` takes a fixed size in TensorRT."""

DECOMPOSABLE = "TRT_decomposable"
"""TensorRT's own attribute of `Attention` that allows it to be computed by simple operators where there is no fused
kernel, as in float32 or for heads as narrow as 4; where there is one, it is used all the same."""

CACHE_TYPES = {
    onnx.TensorProto.FLOAT: "float32",
    onnx.TensorProto.FLOAT16: "float16",
    onnx.TensorProto.BFLOAT16: "bfloat16",
}


@dataclass(frozen=True)
class PlanGraph:
    """A decoder graph that plans are built from.

    Attributes:
        path: The graph's file; its weights may lie next to it.
        model: The graph without the weights that lie in another file.
        cache: Sizes of the key-value cache; `capacity` is the most that the graph can hold.
        vocab_size: V.
    """

    path: Path
    model: onnx.ModelProto
    cache: CacheLayout
    vocab_size: int

    @classmethod
    def read(cls, path: Path) -> PlanGraph:
        """Read a graph and check that the builder can take it.

        Raises:
            ExportError: The file is not an ONNX graph, or is a graph of another target.
        """
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

        try:
            model = onnx.load(str(path), load_external_data=False)
        except DecodeError as error:
            raise ExportError(f"{path} is no ONNX graph: {error}") from error
        properties = {each.key: each.value for each in model.metadata_props}
        inputs = {each.name: each for each in model.graph.input}
        _check_target(path, properties, inputs)
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
        return cls(path, model, cache, model.graph.output[0].type.tensor_type.shape.dim[-1].dim_value)

    @property
    def precision(self) -> str:
        """Precision of the weights."""
        return self.property("precision") or {"float32": "fp32", "float16": "fp16"}.get(self.cache.dtype, "bf16")

    @property
    def opset(self) -> int:
        """Version of the standard operators."""
        return next((each.version for each in self.model.opset_import if not each.domain), 0)

    @property
    def eos_token_ids(self) -> list[int]:
        """Ids of the tokens that end a text."""
        return [int(part) for part in (self.property("eos_token_id") or "").split(",") if part]

    def property(self, key: str) -> str | None:
        """A metadata property that the export wrote into the graph, None where there is none."""
        return next((each.value for each in self.model.metadata_props if each.key == METADATA_PREFIX + key), None)

    def cache_of(self, capacity: int) -> CacheLayout:
        """The cache with another number of slots."""
        return replace(self.cache, capacity=capacity)

    def stored_types(self) -> set[int]:
        """Element types of the weights, by ONNX's numbers."""
        return {each.data_type for each in self.model.graph.initializer}

    def expert_names(self) -> list[str]:
        """Names of the values that hold the chosen experts, one for each layer; empty for a dense model."""
        return [name for node in self.model.graph.node for name in node.output if name.endswith(EXPERTS_SUFFIX)]

    def for_parser(self, capacity: int) -> bytes:
        """The serialized graph for a cache of `capacity` slots; weights in another file stay there.

        The chosen experts become outputs: without them nobody could tell whether a plan that differs from eager sent a
        token to another expert, as rounding may, or computes something wrong.

        Args:
            capacity: Slots of each row.
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


def _check_target(path: Path, properties: dict[str, str], inputs: dict[str, onnx.ValueInfoProto]) -> None:
    target = properties.get(f"{METADATA_PREFIX}target")
    if target != "tensorrt":
        raise ExportError(
            f"{path} is for target {target}, expected tensorrt: export the checkpoint with "
            "`minimind-export onnx --target tensorrt`, or name the checkpoint itself"
        )
    if missing := [name for name in INPUTS["tensorrt"] if name not in inputs]:
        raise ExportError(
            f"{path} has no input {missing[0]}: an older version wrote it in a form that is no longer built; export "
            "the checkpoint again with `minimind-export onnx --target tensorrt`"
        )
