"""The graph of target `tensorrt` that a plan is built from: read, checked, and made ready for TensorRT's parser."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from minimind_edge.runtime.errors import ArtifactError
from minimind_edge.runtime.session.contract import INPUTS, METADATA_PREFIX, MOST, cache_names, metadata_integers
from minimind_edge.runtime.tensorrt.plan import EXPERTS_SUFFIX, CacheLayout

from ..artifact.onnx_graph import read_graph
from ..errors import ExportError

KV_CAPACITY = "kv_capacity"
"""Name of the cache's symbolic axis, replaced by a number: `TensorScatter` takes a fixed size in TensorRT."""

DECOMPOSABLE = "TRT_decomposable"
"""TensorRT's own attribute of `Attention` that allows it to be computed by simple operators where there is no fused
kernel, as in float32 or for heads as narrow as 4; where there is one, it is used nevertheless."""

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
            ArtifactError: Its metadata has something else where numbers belong.
            ExportError: It is not an ONNX graph, a graph of another target, or one without the sizes of its cache.
        """
        try:
            model = read_graph(path)
        except ArtifactError as error:
            raise ExportError(f"the source is no ONNX graph: {error}") from error
        properties = {each.key: each.value for each in model.metadata_props}
        inputs = {each.name: each for each in model.graph.input}
        _check_target(path, properties, inputs)
        layers = sum(name.endswith(".key") for name in inputs)
        if not layers or not set(cache_names("past_key_values", layers)) <= inputs.keys():
            raise ExportError(f"{path} has no past_key_values; export the checkpoint again")
        tensor = inputs["past_key_values.0.key"].type.tensor_type
        sizes = [dim.dim_value for dim in tensor.shape.dim]
        heads, head_dim = (sizes[1], sizes[3]) if len(sizes) == 4 else (0, 0)
        capacity = _capacity(path, properties)
        cache = CacheLayout(layers, heads, head_dim, capacity, CACHE_TYPES.get(tensor.elem_type, "unknown"))
        if cache.dtype == "unknown" or not all(0 < size <= MOST for size in (heads, head_dim, capacity)):
            raise ExportError(f"{path} lacks the sizes of its cache; export the checkpoint again")
        logits = [dim.dim_value for dim in model.graph.output[0].type.tensor_type.shape.dim]
        if not logits or not 0 < logits[-1] <= MOST:
            raise ExportError(f"{path} lacks the size of its vocabulary; export the checkpoint again")
        return cls(path, model, cache, logits[-1])

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
        return list(metadata_integers({each.key: each.value for each in self.model.metadata_props}, "eos_token_id"))

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


def _capacity(path: Path, properties: dict[str, str]) -> int:
    """The most slots that the graph can hold, 0 where it does not tell."""
    found = metadata_integers(properties, "max_length")
    return found[0] if len(found) == 1 else 0


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
