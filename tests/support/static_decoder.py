"""A decoder small enough to write down twice: in NumPy without a cache, and as a graph of target `tensorrt`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper, parser

LAYERS, HEADS, KV_HEADS, HEAD_DIM, VOCAB, POSITIONS = 2, 4, 2, 16, 64, 256
HIDDEN = HEADS * HEAD_DIM
DTYPES = {"fp32": ("float", onnx.TensorProto.FLOAT), "fp16": ("float16", onnx.TensorProto.FLOAT16)}

HEADER = """
<ir_version: 11, opset_import: ["": 24]>
decoder (int32[batch_size, length] input_ids, int32[batch_size] write_indices, int32[batch_size] last_index{inputs})
=> (float[batch_size, 1, {vocab}] logits{outputs})
{{
    zero = Constant <value_int = 0> ()
    one = Constant <value_int = 1> ()
    axis_1 = Constant <value_ints = [1]> ()
    axes_1_3 = Constant <value_ints = [1, 3]> ()
    split_heads = Constant <value_ints = [0, 0, -1, {head_dim}]> ()
    merge_heads = Constant <value_ints = [0, 0, -1]> ()
    starts = Cast <to = 7> (write_indices)
    start_column = Unsqueeze (starts, axis_1)
    chunk = Shape <start = 1> (input_ids)
    chunk_scalar = Squeeze (chunk)
    offsets = Range (zero, chunk_scalar, one)
    positions = Add (start_column, offsets)
    capacity = Shape <start = 2, end = 3> ("past_key_values.0.key")
    capacity_scalar = Squeeze (capacity)
    slots = Range (zero, capacity_scalar, one)
    own_slots = Unsqueeze (positions, axes_1_3)
    mask = LessOrEqual (slots, own_slots)
    x_0 = Gather (embedding, input_ids)
"""

PROJECTION = """
    {t}_{i}_flat = MatMul (x_{i}, w{t}_{i})
    {t}_{i}_split = Reshape ({t}_{i}_flat, split_heads)
    {t}_{i}_heads = Transpose <perm = [0, 2, 1, 3]> ({t}_{i}_split)
"""

LAYER = """
    q_{i} = RotaryEmbedding (q_{i}_heads, cos_table, sin_table, positions)
    k_{i} = RotaryEmbedding (k_{i}_heads, cos_table, sin_table, positions)
    "present.{i}.key" = TensorScatter <axis = -2> ("past_key_values.{i}.key", k_{i}, starts)
    "present.{i}.value" = TensorScatter <axis = -2> ("past_key_values.{i}.value", v_{i}_heads, starts)
    a_{i}_heads = Attention (q_{i}, "present.{i}.key", "present.{i}.value", mask)
    a_{i}_split = Transpose <perm = [0, 2, 1, 3]> (a_{i}_heads)
    a_{i} = Reshape (a_{i}_split, merge_heads)
    o_{i} = MatMul (a_{i}, wo_{i})
    x_{next} = Add (x_{i}, o_{i})
"""

FOOTER = """
    last = Cast <to = 7> (last_index)
    last_column = Unsqueeze (last, axis_1)
    last_rows = GatherND <batch_dims = 1> (x_{layers}, last_column)
    last_hidden = Unsqueeze (last_rows, axis_1)
    scores = MatMul (last_hidden, head)
    logits = Cast <to = 1> (scores)
}}
"""


class StaticDecoder:
    """Grouped-query attention with RoPE and nothing else, with random weights."""

    def __init__(self) -> None:
        generator = np.random.default_rng(7)
        shapes = {"embedding": (VOCAB, HIDDEN), "head": (HIDDEN, VOCAB)}
        for layer in range(LAYERS):
            for name, width in (("wq", HIDDEN), ("wk", KV_HEADS * HEAD_DIM), ("wv", KV_HEADS * HEAD_DIM)):
                shapes[f"{name}_{layer}"] = (HIDDEN, width)
            shapes[f"wo_{layer}"] = (HIDDEN, HIDDEN)
        self.weights = {name: generator.normal(0, 0.15, shape).astype(np.float32) for name, shape in shapes.items()}
        self.weights["embedding"] *= 6
        angles = np.outer(np.arange(POSITIONS), 100.0 ** (-np.arange(0, HEAD_DIM, 2) / HEAD_DIM))
        self.weights["cos_table"] = np.cos(angles).astype(np.float32)
        self.weights["sin_table"] = np.sin(angles).astype(np.float32)

    def logits(self, tokens: list[int]) -> np.ndarray:
        """`[S, V]` of one unpadded row in one pass, without a cache, in float64."""
        cos, sin = (np.tile(self._wide(name)[: len(tokens)], 2) for name in ("cos_table", "sin_table"))
        visible = np.tril(np.ones((len(tokens),) * 2, bool))
        x = self._wide("embedding")[np.array(tokens)]
        for layer in range(LAYERS):
            q, k, v = (self._heads(x, f"{name}_{layer}") for name in ("wq", "wk", "wv"))
            q, k = (each * cos + self._turn(each) * sin for each in (q, k))
            k, v = (np.repeat(each, HEADS // KV_HEADS, axis=0) for each in (k, v))
            scores = np.where(visible, q @ k.swapaxes(1, 2) * HEAD_DIM**-0.5, -np.inf)
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            weights /= weights.sum(-1, keepdims=True)
            x = x + (weights @ v).swapaxes(0, 1).reshape(x.shape) @ self._wide(f"wo_{layer}")
        return x @ self._wide("head")

    def save(self, path: Path, precision: str = "fp32", **metadata: str) -> Path:
        """Write the graph, `kv_capacity` symbolic, with the metadata of an export."""
        kv_type, code = DTYPES[precision]
        cache = [f"{layer}.{part}" for layer in range(LAYERS) for part in ("key", "value")]
        shape = f"{kv_type}[batch_size, {KV_HEADS}, kv_capacity, {HEAD_DIM}]"
        text = HEADER.format(
            inputs="".join(f', {shape} "past_key_values.{x}"' for x in cache),
            outputs="".join(f', {shape} "present.{x}"' for x in cache),
            vocab=VOCAB,
            head_dim=HEAD_DIM,
        )
        for i in range(LAYERS):
            text += "".join(PROJECTION.format(i=i, t=t) for t in "qkv") + LAYER.format(i=i, next=i + 1)
        model = parser.parse_model(text + FOOTER.format(layers=LAYERS))
        dtype = helper.tensor_dtype_to_np_dtype(code)
        for name, value in self.weights.items():
            model.graph.initializer.append(numpy_helper.from_array(value.astype(dtype), name))
        properties = {
            "target": "tensorrt",
            "precision": precision,
            "max_length": str(POSITIONS),
            "generation": "minimind2",
            "eos_token_id": "2",
        } | metadata
        helper.set_model_props(model, {f"minimind_edge.{key}": value for key, value in properties.items()})
        path.write_bytes(model.SerializeToString())
        return path

    def _wide(self, name: str) -> np.ndarray:
        return self.weights[name].astype(np.float64)

    @staticmethod
    def _turn(x: np.ndarray) -> np.ndarray:
        first, second = np.split(x, 2, axis=-1)
        return np.concatenate([-second, first], axis=-1)

    def _heads(self, x: np.ndarray, name: str) -> np.ndarray:
        return (x @ self._wide(name)).reshape(len(x), -1, HEAD_DIM).swapaxes(0, 1)
