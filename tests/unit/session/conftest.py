"""A decoder small enough to write down twice: in NumPy without a cache, and as graphs with one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper, parser

from minimind_edge.runtime.load import load_session
from minimind_edge.runtime.session.session import Session

LAYERS, HEADS, KV_HEADS, HEAD_DIM, VOCAB, POSITIONS = 2, 4, 2, 8, 32, 1024
HIDDEN = HEADS * HEAD_DIM
KV_TYPES = {"fp32": "float", "fp16": "float16"}

HEADER = """
<ir_version: 10, opset_import: ["": 18, "com.microsoft": 1]>
decoder (int64[batch, seq] input_ids, int64[batch, total] attention_mask, int64[batch, seq] position_ids{inputs})
=> (float[batch, seq, {vocab}] logits{outputs})
{{
    mask_size = Shape <start = 1> (attention_mask)
    chunk = Shape <start = 1> (input_ids)
    batch = Shape <start = 0, end = 1> (input_ids)
    past = Sub (mask_size, chunk)
    one_d = Constant <value_ints = [-1]> ()
    zero = Constant <value_int = 0> ()
    one = Constant <value_int = 1> ()
    total_scalar = Squeeze (mask_size)
    past_scalar = Squeeze (past)
    slots = Range (zero, total_scalar, one)
    own = Range (past_scalar, total_scalar, one)
    own_column = Unsqueeze (own, one_d)
    causal = LessOrEqual (slots, own_column)
    inner = Constant <value_ints = [1, 2]> ()
    mask_4d = Unsqueeze (attention_mask, inner)
    real = Cast <to = 9> (mask_4d)
    visible = And (causal, real)
    nothing = Constant <value_float = 0.0> ()
    hidden_score = Constant <value_float = -10000.0> ()
    bias = Where (visible, nothing, hidden_score)
    axis_1 = Constant <value_ints = [1]> ()
    cos_rows = Gather (cos_table, position_ids)
    sin_rows = Gather (sin_table, position_ids)
    cos = Unsqueeze (cos_rows, axis_1)
    sin = Unsqueeze (sin_rows, axis_1)
    split_heads = Constant <value_ints = [0, 0, -1, {head_dim}]> ()
    merge_heads = Constant <value_ints = [0, 0, -1]> ()
    x_0 = Gather (embedding, input_ids)
    last_slot = Sub (mask_size, axis_1)
    last_slot_32 = Cast <to = 6> (last_slot)
    total_32 = Cast <to = 6> (total_scalar)
    chunk_32 = Cast <to = 6> (chunk)
    seqlens = Expand (last_slot_32, batch)
    query_seqlens = Expand (chunk_32, batch)
"""

ROTATED = """
    {t}_{i}_flat = MatMul (x_{i}, w{t}_{i})
    {t}_{i}_split = Reshape ({t}_{i}_flat, split_heads)
    {t}_{i}_heads = Transpose <perm = [0, 2, 1, 3]> ({t}_{i}_split)
    {t}_{i}_first, {t}_{i}_second = Split <axis = -1, num_outputs = 2> ({t}_{i}_heads)
    {t}_{i}_minus = Neg ({t}_{i}_second)
    {t}_{i}_turned = Concat <axis = -1> ({t}_{i}_minus, {t}_{i}_first)
    {t}_{i}_cos = Mul ({t}_{i}_heads, cos)
    {t}_{i}_sin = Mul ({t}_{i}_turned, sin)
    {t}_{i}_full = Add ({t}_{i}_cos, {t}_{i}_sin)
    {t}_{i} = Cast <to = {kv_type}> ({t}_{i}_full)
"""

VALUES = """
    v_{i}_flat = MatMul (x_{i}, wv_{i})
    v_{i}_split = Reshape (v_{i}_flat, split_heads)
    v_{i}_heads = Transpose <perm = [0, 2, 1, 3]> (v_{i}_split)
    v_{i} = Cast <to = {kv_type}> (v_{i}_heads)
"""

PORTABLE_ATTENTION = """
    "present.{i}.key" = Concat <axis = 2> ("past_key_values.{i}.key", k_{i})
    "present.{i}.value" = Concat <axis = 2> ("past_key_values.{i}.value", v_{i})
    k_{i}_32 = Cast <to = 1> ("present.{i}.key")
    v_{i}_32 = Cast <to = 1> ("present.{i}.value")
    k_{i}_all = Gather <axis = 1> (k_{i}_32, kv_head_of_query)
    v_{i}_all = Gather <axis = 1> (v_{i}_32, kv_head_of_query)
    k_{i}_columns = Transpose <perm = [0, 1, 3, 2]> (k_{i}_all)
    q_{i}_32 = Cast <to = 1> (q_{i})
    scores_{i} = MatMul (q_{i}_32, k_{i}_columns)
    scaled_{i} = Mul (scores_{i}, scale)
    biased_{i} = Add (scaled_{i}, bias)
    weights_{i} = Softmax <axis = -1> (biased_{i})
    a_{i}_heads = MatMul (weights_{i}, v_{i}_all)
    a_{i}_split = Transpose <perm = [0, 2, 1, 3]> (a_{i}_heads)
    a_{i} = Reshape (a_{i}_split, merge_heads)
"""

ORT_ATTENTION = """
    bias_{i} = Cast <to = {kv_type}> (bias)
    q_{i}_rows = Transpose <perm = [0, 2, 1, 3]> (q_{i})
    k_{i}_rows = Transpose <perm = [0, 2, 1, 3]> (k_{i})
    v_{i}_rows = Transpose <perm = [0, 2, 1, 3]> (v_{i})
    q_{i}_3d = Reshape (q_{i}_rows, merge_heads)
    k_{i}_3d = Reshape (k_{i}_rows, merge_heads)
    v_{i}_3d = Reshape (v_{i}_rows, merge_heads)
    a_{i}_kv, "present.{i}.key", "present.{i}.value" =
        com.microsoft.GroupQueryAttention <num_heads = {heads}, kv_num_heads = {kv_heads}> (
            q_{i}_3d, k_{i}_3d, v_{i}_3d, "past_key_values.{i}.key", "past_key_values.{i}.value", seqlens, total_32,
            "", "", "", bias_{i}, "", "", "", "", "", query_seqlens)
    a_{i} = Cast <to = 1> (a_{i}_kv)
"""

OUTPUT = """
    o_{i} = MatMul (a_{i}, wo_{i})
    x_{next} = Add (x_{i}, o_{i})
"""


class TinyDecoder:
    """Grouped-query attention with RoPE and nothing else, in float32 with random weights."""

    def __init__(self) -> None:
        generator = np.random.default_rng(7)
        shapes = {"embedding": (VOCAB, HIDDEN), "head": (HIDDEN, VOCAB)}
        for layer in range(LAYERS):
            for name, width in (("wq", HIDDEN), ("wk", KV_HEADS * HEAD_DIM), ("wv", KV_HEADS * HEAD_DIM)):
                shapes[f"{name}_{layer}"] = (HIDDEN, width)
            shapes[f"wo_{layer}"] = (HIDDEN, HIDDEN)
        self.weights = {name: generator.normal(0, 0.25, shape).astype(np.float32) for name, shape in shapes.items()}
        self.weights["embedding"] *= 6
        angles = np.outer(np.arange(POSITIONS), 100.0 ** (-np.arange(0, HEAD_DIM, 2) / HEAD_DIM))
        self.weights["cos_table"] = np.tile(np.cos(angles), 2).astype(np.float32)
        self.weights["sin_table"] = np.tile(np.sin(angles), 2).astype(np.float32)

    def logits(self, input_ids: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
        """`[B, S, V]` in one pass over the whole of `[B, S]`, without a cache, in float64."""
        mask = np.ones_like(input_ids) if mask is None else mask
        positions = np.maximum(mask.cumsum(1) - 1, 0)
        cos, sin = (self._wide(name)[positions][:, None] for name in ("cos_table", "sin_table"))
        visible = np.tril(np.ones((mask.shape[1],) * 2, bool)) & mask[:, None, None].astype(bool)
        x = self._wide("embedding")[input_ids]
        for layer in range(LAYERS):
            q, k, v = (self._heads(x, f"{name}_{layer}") for name in ("wq", "wk", "wv"))
            q, k = (each * cos + self._turn(each) * sin for each in (q, k))
            k, v = (np.repeat(each, HEADS // KV_HEADS, axis=1) for each in (k, v))
            scores = np.where(visible, q @ k.swapaxes(2, 3) * HEAD_DIM**-0.5, -1e4)
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            weights /= weights.sum(-1, keepdims=True)
            x = x + (weights @ v).swapaxes(1, 2).reshape(x.shape) @ self._wide(f"wo_{layer}")
        return x @ self._wide("head")

    def _wide(self, name: str) -> np.ndarray:
        return self.weights[name].astype(np.float64)

    @staticmethod
    def _turn(x: np.ndarray) -> np.ndarray:
        first, second = np.split(x, 2, axis=-1)
        return np.concatenate([-second, first], axis=-1)

    def _heads(self, x: np.ndarray, name: str) -> np.ndarray:
        return (x @ self._wide(name)).reshape(*x.shape[:2], -1, HEAD_DIM).swapaxes(1, 2)

    def graph(self, target: str, precision: str = "fp32") -> onnx.ModelProto:
        """A graph of the contract's interface; `precision` is the cache's."""
        kv_type = KV_TYPES[precision]
        cache = [f"{layer}.{part}" for layer in range(LAYERS) for part in ("key", "value")]
        inputs = "".join(f', {kv_type}[batch, {KV_HEADS}, past, {HEAD_DIM}] "past_key_values.{x}"' for x in cache)
        outputs = "".join(f', {kv_type}[batch, {KV_HEADS}, total, {HEAD_DIM}] "present.{x}"' for x in cache)
        text = HEADER.format(inputs=inputs, outputs=outputs, vocab=VOCAB, head_dim=HEAD_DIM)
        attention = ORT_ATTENTION if target == "ort" else PORTABLE_ATTENTION
        code = {"fp32": onnx.TensorProto.FLOAT, "fp16": onnx.TensorProto.FLOAT16}[precision]
        for i in range(LAYERS):
            for t in "qk":
                text += ROTATED.format(i=i, t=t, kv_type=code)
            text += VALUES.format(i=i, kv_type=code)
            text += attention.format(i=i, kv_type=code, heads=HEADS, kv_heads=KV_HEADS)
            text += OUTPUT.format(i=i, next=i + 1)
        model = parser.parse_model(text + f"    logits = MatMul (x_{LAYERS}, head)\n}}")
        constants = {
            "kv_head_of_query": np.arange(HEADS) // (HEADS // KV_HEADS),
            "scale": np.array(HEAD_DIM**-0.5, np.float32),
        }
        for name, value in (self.weights | constants).items():
            model.graph.initializer.append(numpy_helper.from_array(value, name))
        return model


@pytest.fixture(scope="session")
def decoder() -> TinyDecoder:
    return TinyDecoder()


SaveGraph = Callable[..., Path]


@pytest.fixture
def save_graph(decoder: TinyDecoder, tmp_path: Path) -> SaveGraph:
    """Write a graph: `save_graph(target, precision="fp32", **metadata)`; `change` edits the model before."""

    def save(
        target: str,
        precision: str = "fp32",
        /,
        change: Callable[[onnx.ModelProto], Any] | None = None,
        **metadata: str,
    ) -> Path:
        model = decoder.graph(target, precision)
        helper.set_model_props(model, {f"minimind_edge.{key}": value for key, value in metadata.items()})
        if change is not None:
            change(model)
        path = tmp_path / f"{target}_{precision}.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    return save


@pytest.fixture
def load(save_graph: SaveGraph) -> Callable[..., Session]:
    """Write a graph and load it: `load(target, precision="fp32", **arguments of load_session)`."""

    def open_session(target: str, precision: str = "fp32", **arguments: Any) -> Session:
        return load_session(save_graph(target, precision, target=target), threads=1, **arguments)

    return open_session


@pytest.fixture
def short_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Buffers begin with 4 slots instead of 256, so that short texts outgrow them."""
    monkeypatch.setattr("minimind_edge.runtime.session.model.MIN_CAPACITY", 4)
