"""Graphs of one native operator, run in ONNX Runtime, and what the operators compute in float64."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

DOMAIN = "minimind_edge"
EPSILON = 1e-5
FLOAT, INT32, INT64 = TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64
INPUTS = {
    "qkv": (FLOAT, 3),
    "past_key": (FLOAT, 4),
    "past_value": (FLOAT, 4),
    "attention_mask": (INT64, 2),
    "row_lengths": (INT32, 1),
    "row_tokens": (INT32, 1),
    "cos": (FLOAT, 2),
    "sin": (FLOAT, 2),
    "position_ids": (INT64, 2),
    "q_norm": (FLOAT, 1),
    "k_norm": (FLOAT, 1),
}
OUTPUTS = ("mixed", "present_key", "present_value")


def library_path() -> str:
    """The path of the installed library, also while its vectors are limited to none."""
    import minimind_edge.native

    return str(Path(minimind_edge.native.__file__).with_name("operators.so"))


def limit_lanes(lanes: int) -> int:
    """Let sessions made from now on use vectors of at most so many floats; gives how many they use."""
    return int(ctypes.CDLL(library_path()).minimind_edge_native_limit_lanes(lanes))


def make_session(model: onnx.ModelProto, threads: int = 1) -> ort.InferenceSession:
    """A session for a graph that may hold native operators."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # refusals are expected
    options.register_custom_ops_library(library_path())
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def graph_of(
    node: onnx.NodeProto, inputs: Mapping[str, tuple[int, int | None]], outputs: tuple[str, ...]
) -> onnx.ModelProto:
    """A graph of one node; inputs by name, with their type and number of axes (None for any)."""

    def value(name: str, kind: int, rank: int | None) -> onnx.ValueInfoProto:
        axes = None if rank is None else [f"{name}_{axis}" for axis in range(rank)]
        return helper.make_tensor_value_info(name, kind, axes)

    graph = helper.make_graph(
        [node],
        "one_node",
        [value(name, *described) for name, described in inputs.items()],
        [value(name, FLOAT, None) for name in outputs],
    )
    opsets = [helper.make_opsetid(domain, 1) for domain in (DOMAIN, "com.microsoft")]
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21), *opsets], ir_version=10)


@dataclass(frozen=True)
class Heads:
    """The attributes of CachedAttention, and whether it normalizes queries and keys."""

    num_heads: int = 4
    kv_num_heads: int = 2
    dim: int = 64
    norms: bool = False
    scale: float = 0.125
    any_rank: bool = False

    def graph(self) -> onnx.ModelProto:
        inputs = {name: kind for name, kind in INPUTS.items() if self.norms or not name.endswith("_norm")}
        node = helper.make_node(
            "CachedAttention",
            list(inputs),
            list(OUTPUTS),
            domain=DOMAIN,
            num_heads=self.num_heads,
            kv_num_heads=self.kv_num_heads,
            scale=self.scale,
            epsilon=EPSILON,
        )
        if self.any_rank:
            inputs = {name: (kind, None) for name, (kind, _) in inputs.items()}
        return graph_of(node, inputs, OUTPUTS)


@cache
def session_of(heads: Heads, lanes: int, threads: int = 1) -> ort.InferenceSession:
    """The session of a graph with one CachedAttention; one for all tests."""
    assert limit_lanes(lanes) == lanes
    return make_session(heads.graph(), threads)


@dataclass(frozen=True)
class Step:
    """One run of CachedAttention: its inputs by name, and the heads that they are for."""

    heads: Heads
    feeds: dict[str, np.ndarray] = field(default_factory=dict, repr=False)

    def with_feeds(self, **feeds: Any) -> Step:
        return replace(self, feeds=self.feeds | feeds)

    def rows(self, rows: list[int]) -> Step:
        """The same step for some of the rows alone."""
        batch = len(self.feeds["qkv"])
        per_row = [name for name in INPUTS if name not in {"cos", "sin", "q_norm", "k_norm"}]
        return self.with_feeds(
            **{name: self.feeds[name][rows] for name in per_row if len(self.feeds[name]) == batch and batch > 1}
        )

    def run(self, lanes: int, threads: int = 1) -> list[np.ndarray]:
        """The outputs, where the present is not the memory of the past."""
        return session_of(self.heads, lanes, threads).run(None, self.feeds)

    def run_in_place(self, lanes: int) -> list[np.ndarray]:
        """The outputs, where the present is the memory of the past."""
        session = session_of(self.heads, lanes)
        binding = session.io_binding()
        arrays = {name: array.copy() for name, array in self.feeds.items()}  # values are views of them
        for name, array in arrays.items():
            value = ort.OrtValue.ortvalue_from_numpy(array, "cpu", 0)
            binding.bind_ortvalue_input(name, value)
            if name.startswith("past_"):
                binding.bind_ortvalue_output(name.replace("past", "present"), value)
        binding.bind_output("mixed")
        session.run_with_iobinding(binding)
        return [binding.get_outputs()[-1].numpy().copy(), arrays["past_key"], arrays["past_value"]]


def make_step(
    heads: Heads,
    seed: int = 0,
    *,
    tokens: list[int],
    past: list[int],
    size: int = 0,
    capacity: int = 0,
    spare: int = 0,
) -> Step:
    """A step for rows with so many tokens after so many slots, by random numbers.

    Args:
        heads: The operator's attributes.
        seed: Seed of the random numbers.
        tokens: Tokens of each row in this run.
        past: Slots of each row before this run.
        size: S, where it is more than the most tokens of a row.
        capacity: P, where it is more than the slots before this run.
        spare: Slots that the mask has after those of the longest row.
    """
    rng = np.random.default_rng(seed)
    size = max(size, *tokens)
    total = max(have + new for have, new in zip(past, tokens, strict=True)) + spare
    capacity = max(capacity, *past)
    cache = (len(tokens), heads.kv_num_heads, capacity, heads.dim)
    width = (heads.num_heads + 2 * heads.kv_num_heads) * heads.dim

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    angles = np.arange(total + 7)[:, None] / 1e4 ** (np.arange(heads.dim // 2) / (heads.dim // 2))
    feeds = {
        "qkv": normal(len(tokens), size, width),
        "past_key": normal(*cache),
        "past_value": normal(*cache),
        "attention_mask": np.ones((len(tokens), total), np.int64),
        "row_lengths": np.array([have + new for have, new in zip(past, tokens, strict=True)], np.int32),
        "row_tokens": np.array(tokens, np.int32),
        "cos": np.cos(angles).astype(np.float32),
        "sin": np.sin(angles).astype(np.float32),
        "position_ids": np.array([[have + i for i in range(size)] for have in past], np.int64),
    }
    feeds["position_ids"] = np.where(np.arange(size) < np.array(tokens)[:, None], feeds["position_ids"], -1)
    if heads.norms:
        feeds |= {name: 1 + normal(heads.dim) / 4 for name in ("q_norm", "k_norm")}
    return Step(heads, feeds)


def normalized(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + EPSILON) * weight


def rotated(x: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
    """RoPE of heads [.., D], element i paired with i + D/2."""
    a, b = np.split(x, 2, axis=-1)
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


def expected(step: Step) -> list[np.ndarray]:
    """What CachedAttention gives, in float64, token by token."""
    heads = step.heads
    feeds = {
        name: array.astype(np.float64) if array.dtype == np.float32 else array for name, array in step.feeds.items()
    }
    batch, size, _ = feeds["qkv"].shape
    total = feeds["attention_mask"].shape[1]
    capacity = feeds["past_key"].shape[2]
    room = ((0, 0), (0, 0), (0, max(0, total - capacity)), (0, 0))
    key, value = np.pad(feeds["past_key"], room), np.pad(feeds["past_value"], room)
    mixed = np.zeros((batch, size, heads.num_heads, heads.dim))

    def of(name: str, row: int) -> Any:
        return feeds[name][row if len(feeds[name]) == batch else 0]

    for row in range(batch):
        slots, tokens = min(total, of("row_lengths", row)), min(size, of("row_tokens", row))
        for token in range(tokens):
            slot, position = slots - tokens + token, of("position_ids", row)[token]
            split = feeds["qkv"][row, token].reshape(-1, heads.dim)
            q, k, v = np.split(split, [heads.num_heads, heads.num_heads + heads.kv_num_heads])
            if heads.norms:
                q, k = normalized(q, feeds["q_norm"]), normalized(k, feeds["k_norm"])
            cos, sin = feeds["cos"][position], feeds["sin"][position]
            key[row, :, slot], value[row, :, slot] = rotated(k, cos, sin), v
            seen = np.flatnonzero(of("attention_mask", row)[: slot + 1])
            for head, query in enumerate(rotated(q, cos, sin)):
                if len(seen):
                    group = head * heads.kv_num_heads // heads.num_heads
                    scores = key[row, group, seen] @ query * heads.scale
                    weights = np.exp(scores - scores.max())
                    mixed[row, token, head] = weights / weights.sum() @ value[row, group, seen]
    return [mixed.reshape(batch, size, -1), key, value]
