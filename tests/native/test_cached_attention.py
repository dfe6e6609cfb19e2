"""CachedAttention, against numpy in float64 and ONNX Runtime's GroupQueryAttention."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from native_nodes import FLOAT, INT32, INT64, Heads, Step, expected, graph_of, limit_lanes, make_session, make_step
from onnx import helper

ABSOLUTE = 2e-5
"""A score's error is a few roundings of products of up to 128 numbers near 1, and a weight's error is its score's."""

WIDTHS = [64, 96, 128]
HEADS = [Heads(4, 1, 64), Heads(4, 2, 96, norms=True), Heads(3, 3, 128), Heads(9, 3, 64, norms=True), Heads(8, 1, 128)]


def assert_right(step: Step, outputs: list[np.ndarray]) -> None:
    for ours, right in zip(outputs, expected(step), strict=True):
        assert ours.shape == right.shape
        np.testing.assert_allclose(ours, right, atol=ABSOLUTE, rtol=1e-5)


def assert_same(ours: list[np.ndarray], theirs: list[np.ndarray]) -> None:
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("heads", HEADS, ids=str)
@pytest.mark.parametrize("past", [0, 1, 7, 16, 61, 130])
def test_a_decode_step(lanes, heads, past):
    step = make_step(heads, past, tokens=[1, 1], past=[past, past // 2])
    assert_right(step, step.run(lanes))


@pytest.mark.parametrize("heads", HEADS, ids=str)
@pytest.mark.parametrize(("tokens", "past"), [(2, 0), (5, 3), (33, 0), (40, 65), (130, 17)])
def test_a_chunk_after_a_past(lanes, heads, tokens, past):
    step = make_step(heads, tokens, tokens=[tokens], past=[past])
    assert_right(step, step.run(lanes))


@st.composite
def steps(draw) -> Step:
    """Steps of rows with lengths and tokens of their own, and inputs in every allowed form."""
    key_heads = draw(st.integers(1, 3))
    heads = Heads(
        key_heads * draw(st.integers(1, 5)), key_heads, draw(st.sampled_from(WIDTHS)), draw(st.booleans()), scale=0.11
    )
    batch = draw(st.integers(1, 4))
    counts = st.integers(0, draw(st.sampled_from([1, 6, 40])))
    tokens = draw(st.lists(counts, min_size=batch, max_size=batch))
    past = draw(st.lists(st.integers(0, 70), min_size=batch, max_size=batch))
    capacity, spare, size = (draw(st.integers(0, most)) for most in (90, 3, 3))
    step = make_step(
        heads, draw(st.integers(0, 9)), tokens=tokens, past=past, capacity=capacity, spare=spare, size=max(1, size)
    )
    mask = step.feeds["attention_mask"].copy()
    for row in range(batch):
        mask[row, : draw(st.integers(0, mask.shape[1]))] = 0
        for hole in draw(st.lists(st.integers(0, max(0, mask.shape[1] - 1)), max_size=3)):
            mask[row, hole : hole + 1] = 0
    if draw(st.booleans()):
        mask = mask[:1]
    feeds = {"attention_mask": mask}
    if len(set(tokens)) == 1 and len(set(past)) == 1:
        feeds |= {name: step.feeds[name][:1] for name in ("position_ids", "row_lengths", "row_tokens")}
    return step.with_feeds(**feeds)


@settings(max_examples=120, deadline=None)
@given(step=steps(), in_place=st.booleans(), most_lanes=st.sampled_from([8, 16]))
def test_any_rows_masks_and_capacities(step, in_place, most_lanes):
    lanes = limit_lanes(most_lanes)
    in_place = in_place and step.feeds["past_key"].shape[2] >= step.feeds["attention_mask"].shape[1]
    assert_right(step, step.run_in_place(lanes) if in_place else step.run(lanes))


def test_the_cache_may_be_written_in_place(lanes):
    step = make_step(Heads(), tokens=[1, 5, 0], past=[9, 20, 13], capacity=64)
    assert_same(step.run_in_place(lanes), step.run(lanes))


def test_a_row_without_tokens_keeps_its_cache_and_gives_zeros(lanes):
    step = make_step(Heads(), tokens=[0, 1], past=[9, 9], capacity=16)
    mixed, key, value = step.run(lanes)
    assert not mixed[0].any()
    assert_same([key[0], value[0]], [step.feeds["past_key"][0], step.feeds["past_value"][0]])


def test_tokens_past_those_of_their_row_give_zeros_and_are_not_read(lanes):
    step = make_step(Heads(), tokens=[2, 5], past=[9, 9], size=7)
    qkv = step.feeds["qkv"].copy()
    qkv[0, 2:] = qkv[1, 5:] = np.nan
    mixed, *caches = step.with_feeds(qkv=qkv).run(lanes)
    assert not mixed[0, 2:].any() and not mixed[1, 5:].any()
    assert all(np.isfinite(cache).all() for cache in caches)


def test_a_batch_may_have_no_rows_and_no_tokens(lanes):
    step = make_step(Heads(), tokens=[1], past=[3])
    outputs = step.rows([]).with_feeds(row_lengths=np.zeros(0, np.int32), row_tokens=np.zeros(0, np.int32)).feeds
    empty = {name: array[:0] if name not in {"cos", "sin"} else array for name, array in outputs.items()}
    assert [len(each) for each in Step(step.heads, empty).run(lanes)] == [0, 0, 0]
    none = make_step(Heads(), tokens=[0], past=[3])
    mixed, key, _ = none.with_feeds(qkv=none.feeds["qkv"][:, :0], position_ids=np.zeros((1, 0), np.int64)).run(lanes)
    assert mixed.shape[1] == 0
    assert_same([key], [none.feeds["past_key"]])


@pytest.mark.parametrize("tokens", [1, 9])
def test_left_padding_changes_no_bit_and_is_not_read(lanes, tokens):
    plain = make_step(Heads(norms=True), tokens=[tokens], past=[20])
    padding = np.full((1, 2, 6, 64), np.nan, np.float32)
    padded = plain.with_feeds(
        past_key=np.concatenate([padding, plain.feeds["past_key"]], axis=2),
        past_value=np.concatenate([padding, plain.feeds["past_value"]], axis=2),
        attention_mask=np.array([[0] * 6 + [1] * (20 + tokens)]),
        row_lengths=np.array([26 + tokens], np.int32),
    )
    assert_same(padded.run(lanes)[:1], plain.run(lanes)[:1])


@pytest.mark.parametrize("tokens", [1, 9])
def test_hidden_slots_between_visible_ones_are_not_read(lanes, tokens):
    step = make_step(Heads(4, 2, 96), tokens=[tokens], past=[40])
    mask = step.feeds["attention_mask"].copy()
    mask[0, [3, 17, 18, 39]] = 0
    step = step.with_feeds(attention_mask=mask)
    right = expected(step)[0]
    for name in ("past_key", "past_value"):
        step.feeds[name][:, :, [3, 17, 18, 39]] = np.nan
    np.testing.assert_allclose(step.run(lanes)[0], right, atol=ABSOLUTE)


def test_a_token_that_sees_nothing_gives_zeros(lanes):
    for tokens in (1, 3):
        step = make_step(Heads(), tokens=[tokens], past=[4])
        mixed, *_ = step.with_feeds(attention_mask=np.zeros((1, 4 + tokens), np.int64)).run(lanes)
        assert not mixed.any()
    step = make_step(Heads(), tokens=[4], past=[0])
    step = step.with_feeds(attention_mask=np.array([[0, 0, 1, 1]]))
    mixed = step.run(lanes)[0]
    assert not mixed[0, :2].any() and mixed[0, 2:].all()


@pytest.mark.parametrize("heads", HEADS, ids=str)
def test_the_bits_of_a_row_depend_on_no_other_row(lanes, heads):
    step = make_step(heads, tokens=[1, 40, 7, 0, 1], past=[33, 5, 130, 60, 0], capacity=200, size=41)
    together = step.run(lanes)
    for row in range(5):
        alone = step.rows([row])
        assert_same(alone.run(lanes), [each[[row]] for each in together])
        tokens = max(1, step.feeds["row_tokens"][row])
        short = alone.with_feeds(
            qkv=alone.feeds["qkv"][:, :tokens], position_ids=alone.feeds["position_ids"][:, :tokens]
        )
        assert_same(short.run(lanes)[:1], [together[0][[row], :tokens]])


def test_threads_change_no_bit(lanes):
    for tokens in ([1] * 5, [70, 1, 3, 0, 40]):
        step = make_step(Heads(8, 2), tokens=tokens, past=[200, 3, 40, 9, 0])
        assert_same(step.run(lanes, threads=3), step.run(lanes))


def test_large_scores_stay_finite(lanes):
    step = make_step(Heads(scale=40.0), tokens=[1, 6], past=[50, 50])
    assert np.abs(expected(step)[0]).max() > 0
    for tokens in (step.rows([0]), step):
        assert all(np.isfinite(each).all() for each in tokens.run(lanes))


def test_numbers_that_are_none_stay_none(lanes):
    for tokens in (1, 3):
        step = make_step(Heads(), tokens=[tokens], past=[5])
        step.feeds["past_key"][0, 0, 2, 7] = np.nan
        mixed, *_ = step.run(lanes)
        halves = mixed.reshape(tokens, 2, -1)
        assert np.isnan(halves[:, 0]).all() and np.isfinite(halves[:, 1]).all()


@pytest.mark.parametrize("dim", WIDTHS)
@pytest.mark.parametrize(("tokens", "past"), [(1, 37), (21, 0), (6, 37)])
def test_group_query_attention_gives_the_same(lanes, dim, tokens, past):
    heads = Heads(6, 3, dim, scale=dim**-0.5)
    batch = 1 if tokens > 1 and past else 2  # all that the operator takes
    step = make_step(heads, tokens=[tokens] * batch, past=[past] * batch)
    inputs = {
        "qkv": (FLOAT, 3),
        "past_key": (FLOAT, 4),
        "past_value": (FLOAT, 4),
        "seqlens_k": (INT32, 1),
        "total": (INT32, 1),
        "cos": (FLOAT, 2),
        "sin": (FLOAT, 2),
        "position_ids": (INT64, 2),
    }
    names = list(inputs)
    node = helper.make_node(
        "GroupQueryAttention",
        [names[0], "", "", *names[1:]],
        ["mixed", "present_key", "present_value"],
        domain="com.microsoft",
        num_heads=6,
        kv_num_heads=3,
        scale=heads.scale,
        do_rotary=1,
    )
    feeds = {name: array for name, array in step.feeds.items() if name in inputs}
    feeds |= {"seqlens_k": np.full(batch, past + tokens - 1, np.int32), "total": np.array([past + tokens], np.int32)}
    stock = make_session(graph_of(node, inputs, ("mixed", "present_key", "present_value"))).run(None, feeds)
    for ours, theirs in zip(step.run(lanes), stock, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=ABSOLUTE)
