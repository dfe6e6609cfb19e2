"""Graphs whose rows have lengths of their own: nothing that the CUDA provider refuses, and eager PyTorch's numbers.

There is no GPU here: the CPU runs the same file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from graph_files import write_graph
from graph_rows import (
    CAPACITY,
    CONTINUATIONS,
    PROMPTS,
    VARIANTS,
    Batch,
    GraphRunner,
    eager_row,
    largest_errors,
    make_model,
)

from minimind_edge.export.parity import compare
from minimind_edge.runtime.batch.loading import load_slots
from minimind_edge.runtime.batch.ort_slots import OrtSlots
from minimind_edge.runtime.errors import UsageError
from minimind_edge.runtime.load import load_session

LOGITS, CACHE = 1e-2, 5e-2
"""About ten and fifty roundings to float16 (5e-4 of a number, and keys reach 10), which do not all go one way."""

FLOAT16 = onnx.TensorProto.FLOAT16

QUERY, KEY, VALUE, PAST_KEY, PAST_VALUE, SEQLENS, TOTAL, COS, SIN = range(9)
"""The inputs of GroupQueryAttention that ONNX Runtime 1.31 and 1.32 both take in their fused CUDA kernels. After them
come position_ids, attention_bias (with it, only the unfused kernel is left), head_sink (no cuDNN kernel), the scales
of an integer cache, the norms' weights, and query_seqlens (from 1.32 on)."""

MOST_HEADS = 1024
"""The most query heads of the CUDA kernel: the threads of a block."""

WIDEST_HEAD = 256
"""The widest head of the CUDA provider's flash attention; it takes multiples of 8, and rotates multiples of 16."""


@pytest.fixture(scope="module", params=VARIANTS)
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A model, and its graph."""
    return save(make_model(request.param), tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def gqa(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    return save(make_model("gqa"), tmp_path_factory.mktemp("rows"))


def save(model: Any, folder: Path) -> tuple[Any, Path]:
    return model, write_graph(folder, model, "ort", "fp16", CAPACITY)


def eager_last(model: Any, tokens: list[int]) -> np.ndarray:
    """Eager PyTorch's logits after tokens, [V] float32."""
    return eager_row(model, np.array(tokens), np.arange(len(tokens))).logits[-1]


def is_close(found: np.ndarray, expected: np.ndarray) -> bool:
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    return bool(np.abs(found - expected).max() < LOGITS * np.abs(expected).max())


def test_attention_has_nothing_that_the_cuda_provider_refuses(saved):
    model, path = saved
    graph = onnx.load(path).graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.value_info, *graph.output)}
    types |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    nodes = [node for node in graph.node if node.op_type == "GroupQueryAttention"]
    assert len(nodes) == model.config.num_hidden_layers
    for node in nodes:
        numbers = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        assert set(numbers) == {"num_heads", "kv_num_heads", "scale", "do_rotary"}  # no soft cap, window or int8 cache
        assert len(node.input) == (SIN if numbers["do_rotary"] else TOTAL) + 1
        assert bool(node.input[KEY]) is bool(node.input[VALUE])
        halves = [QUERY, PAST_KEY, PAST_VALUE, *([KEY, VALUE] if node.input[KEY] else [])]
        halves += [COS, SIN] if numbers["do_rotary"] else []
        assert {types[node.input[index]] for index in halves} | {types[name] for name in node.output} == {FLOAT16}
        assert {types[node.input[index]] for index in (SEQLENS, TOTAL)} == {onnx.TensorProto.INT32}
        assert numbers["num_heads"] % numbers["kv_num_heads"] == 0
        assert numbers["num_heads"] <= MOST_HEADS
        assert model.config.head_dim % (16 if numbers["do_rotary"] else 8) == 0
        assert model.config.head_dim <= WIDEST_HEAD
        assert len(node.output) == 3  # the scores are no output
    assert not [node.name for node in graph.node if "bias" in node.name]


def test_the_file_says_that_rows_have_lengths(gqa):
    properties = {entry.key: entry.value for entry in onnx.load(gqa[1]).metadata_props}
    assert properties["minimind_edge.cache"] == "rows"
    assert properties["minimind_edge.optional_inputs"] == "logits_start,row_lengths"


@pytest.mark.parametrize("padding", ["left", "right", "none"])
@pytest.mark.parametrize("chunk", [2, 512])
def test_padded_rows_are_each_row_alone(saved, padding, chunk):
    model, path = saved
    session = load_session(path, device="cpu", threads=1, prefill_chunk=chunk)
    batch = Batch.of(padding)
    size = batch.ids.shape[1] - len(CONTINUATIONS[0])
    found = session.prefill(batch.ids[:, :size], batch.mask[:, :size]).copy()
    rows = [
        row[real].tolist() for row, real in zip(batch.ids[:, :size], batch.mask[:, :size].astype(bool), strict=True)
    ]
    for column in range(size, batch.ids.shape[1] + 1):
        assert is_close(found, np.stack([eager_last(model, row) for row in rows])), column
        if column < batch.ids.shape[1]:
            for row, token in zip(rows, batch.ids[:, column].tolist(), strict=True):
                row.append(token)
            found = session.decode(batch.ids[:, column])
    caches = [eager_row(model, np.array(row), np.arange(len(row))).presents for row in rows]
    for number, tensor in enumerate(session.cache()):
        assert tensor.dtype == np.float16
        for row, real in enumerate(batch.mask.astype(bool)):
            assert np.abs(tensor[row][:, real] - caches[row][number]).max() < CACHE


@pytest.mark.parametrize("padding", ["left", "right"])
def test_every_tokens_logits_in_chunks_after_a_past(saved, padding):
    model, path = saved
    session = load_session(path, device="cpu", threads=1)
    batch = Batch.of(padding)
    parts = []
    for start, stop in ((0, 2), (2, 5), (5, batch.ids.shape[1])):
        parts.append(session.forward(batch.ids[:, start:stop], batch.mask[:, start:stop]).copy())
    logits = np.concatenate(parts, axis=1)
    assert logits.shape == (*batch.ids.shape, model.config.vocab_size)
    for row, real in enumerate(batch.mask.astype(bool)):
        tokens = batch.ids[row, real]
        assert is_close(logits[row, real], eager_row(model, tokens, np.arange(len(tokens))).logits)


def test_a_roll_back_in_a_padded_batch(gqa):
    model, path = gqa
    session = load_session(path, device="cpu", threads=1)
    batch = Batch.of("left")
    session.prefill(batch.ids, batch.mask)
    session.truncate(4)
    found = session.prefill(batch.ids[:, 4:], batch.mask[:, 4:])
    for row, real in enumerate(batch.mask.astype(bool)):
        assert is_close(found[row], eager_last(model, batch.ids[row, real].tolist()))


def test_a_cache_that_is_read_and_restored(gqa):
    model, path = gqa
    session = load_session(path, device="cpu", threads=1)
    session.prefill(np.array([PROMPTS[0]]))
    cache = session.cache()
    session.reset()
    session.restore(cache)
    assert is_close(session.decode(np.array([21]))[0], eager_last(model, [*PROMPTS[0], 21]))


def test_a_full_cache(gqa):
    model, path = gqa
    session = load_session(path, device="cpu", threads=1)
    tokens = np.random.default_rng(0).integers(3, 131, CAPACITY).tolist()
    session.prefill(np.array([tokens[:-1]]))
    assert session.max_length == CAPACITY
    assert is_close(session.decode(np.array(tokens[-1:]))[0], eager_last(model, tokens))


def test_positions_cannot_be_chosen(gqa):
    session = load_session(gqa[1], device="cpu", threads=1)
    with pytest.raises(UsageError, match="counts positions by itself"):
        session.forward(np.array([[5, 9]]), position_ids=np.array([[3, 4]]))


def test_another_program_pads_on_the_right(gqa):
    """A program that knows none of the optional inputs: the mask's ones are a row's length."""
    model, path = gqa
    runner = GraphRunner(path, shared=True)
    batch = Batch.of("right")
    size = batch.ids.shape[1] - len(CONTINUATIONS[0])
    prompt = Batch(batch.ids[:, :size], batch.mask[:, :size], batch.positions[:, :size])
    assert largest_errors(model, prompt, runner.run(prompt, (size,)))[0] < LOGITS


@pytest.mark.parametrize("even_rows", [False, True])
def test_slots_keep_the_cache_of_rows_without_a_token(saved, even_rows):
    model, path = saved
    slots = load_slots(path, slots=3, threads=1, device="cpu", even_rows=even_rows)
    assert isinstance(slots, OrtSlots)
    rng = np.random.default_rng(0)
    rows: list[list[int]] = []
    for slot, count in enumerate((5, 2, CAPACITY - 6)):
        rows.append(rng.integers(3, 131, count).tolist())
        assert is_close(slots.prefill(slot, np.array(rows[slot])), eager_last(model, rows[slot]))
    for step in range(6):  # the last row is full in the end, and then idle
        active = np.array([step % 2 == 0, step in (1, 2, 5), True])
        tokens = rng.integers(3, 131, 3)
        found = slots.decode(tokens, active).copy()
        for slot in np.flatnonzero(active).tolist():
            rows[slot].append(int(tokens[slot]))
            assert is_close(found[slot], eager_last(model, rows[slot])), (step, slot)
    for rows_in_step in (1, 2, 3):
        active = np.array([True, rows_in_step == 2, False])[:rows_in_step]
        found = slots.decode(np.full(rows_in_step, 7), active).copy()
        for slot in np.flatnonzero(active).tolist():
            rows[slot].append(7)
            assert is_close(found[slot], eager_last(model, rows[slot])), (rows_in_step, slot)
    assert slots.lengths.tolist() == [len(row) for row in rows]
    slots.truncate(2, CAPACITY - 1)
    last = np.array([0, 0, rows[2][-1]])
    found = slots.decode(last, np.array([False, False, True]))
    assert is_close(found[2], eager_last(model, rows[2]))


@pytest.mark.parametrize("variant", ["gqa", "minimind3-moe"])
def test_the_parity_suite_passes(variant, tmp_path):
    model = make_model(variant, max_position_embeddings=256)
    report = compare(model, write_graph(tmp_path, model, "ort", "fp16", 256), target="ort", precision="fp16")
    assert report, report.failures
