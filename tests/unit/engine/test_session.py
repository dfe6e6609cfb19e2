"""The session's logic, on a stand-in of driver and TensorRT that enforces their rules and computes in ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from static_decoder import VOCAB

from minimind_edge.runtime.decode import generate
from minimind_edge.runtime.errors import ArtifactError, ContextLengthError, PromptError, UsageError
from minimind_edge.runtime.sampling import SamplingParams

TOLERANCE = {"fp32": 1e-4, "fp16": 2e-2}
"""Of the largest logit. float16 keeps 11 bits of each number on the way."""


def tokens(count, seed=0):
    return np.random.default_rng(seed).integers(3, VOCAB, count)


def check(found, decoder, *rows, precision="fp32"):
    """Each row's logits are those of the whole row in one pass without a cache."""
    assert len(found) == len(rows)
    for logits, row in zip(found, rows, strict=True):
        expected = decoder.logits([int(each) for each in row])[-1]
        assert np.abs(logits - expected).max() <= TOLERANCE[precision] * np.abs(expected).max()


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_prompt_and_steps_behind_it(standin, decoder, precision):
    session = standin(precision).session
    row = tokens(12)
    check(session.prefill(row[None, :5]), decoder, row[:5], precision=precision)
    for end in range(6, 13):
        check(session.decode(row[end - 1 : end]), decoder, row[:end], precision=precision)
    assert session.length == 12


def test_long_prompts_are_run_in_chunks(standin, decoder):
    under = standin(chunk=4)
    row = tokens(11)
    check(under.session.prefill(row[None]), decoder, row)
    assert under.prefill.runs == 3


def test_chunks_behind_a_past(standin, decoder):
    session = standin().session
    row = tokens(14)
    for start, end in ((0, 3), (3, 4), (4, 11), (11, 14)):
        check(session.prefill(row[None, start:end]), decoder, row[:end])


@pytest.mark.parametrize("side", ["left", "right", "inside"])
@pytest.mark.parametrize("chunk", [8, 3])
def test_padding_anywhere_takes_no_slot(standin, decoder, side, chunk):
    rows = [tokens(7, 1), tokens(2, 2), tokens(5, 3)]
    ids, mask = np.zeros((3, 7), np.int64), np.zeros((3, 7), np.int64)
    for index, row in enumerate(rows):
        places = {"left": np.arange(7 - len(row), 7), "right": np.arange(len(row))}
        at = places.get(side, np.sort(np.random.default_rng(index).permutation(7)[: len(row)]))
        ids[index, at], mask[index, at] = row, 1
    session = standin(chunk=chunk).session
    check(session.prefill(ids, mask), decoder, *rows)
    for step in range(4):
        more = tokens(3, 10 + step)
        rows = [np.append(row, each) for row, each in zip(rows, more, strict=True)]
        check(session.decode(more), decoder, *rows)
    assert session.length == 11


def test_padded_chunks_behind_padded_chunks(standin, decoder):
    session = standin().session
    first, second = tokens((2, 4), 1), tokens((2, 3), 2)
    session.prefill(first, np.array([[0, 0, 1, 1], [1, 1, 1, 1]]))
    found = session.prefill(second, np.array([[1, 1, 1], [0, 1, 0]]))
    check(found, decoder, [*first[0, 2:], *second[0]], [*first[1], second[1, 1]])


def test_a_row_without_a_real_token_waits(standin, decoder):
    session = standin().session
    first, second = tokens((2, 4), 1), tokens((2, 2), 2)
    session.prefill(first)
    check(session.prefill(second, np.array([[1, 1], [0, 0]]))[:1], decoder, [*first[0], *second[0]])
    check(session.decode(np.array([9, 8])), decoder, [*first[0], *second[0], 9], [*first[1], 8])


def test_rolling_back_gives_what_never_going_on_gives(standin, decoder):
    session = standin().session
    rows = tokens((2, 9), 4)
    mask = np.ones((2, 6), np.int64)
    mask[0, :3] = 0
    session.prefill(rows[:, :6], mask)
    for column in range(6, 9):
        session.decode(rows[:, column])
    session.truncate(4)
    assert session.length == 4
    check(session.decode(np.array([5, 6])), decoder, [rows[0, 3], 5], [*rows[1, :4], 6])


def test_a_reset_forgets_and_takes_other_rows(standin, decoder):
    under = standin()
    session = under.session
    session.prefill(tokens((1, 6)))
    session.reset(3)
    assert (session.batch_size, session.length) == (3, 0)
    rows = tokens((3, 4), 5)
    check(session.prefill(rows), decoder, *rows)
    cache = len(under.driver.memory)
    session.reset(2)
    check(session.prefill(rows[:2]), decoder, *rows[:2])
    assert len(under.driver.memory) == cache


def test_the_cache_is_filled_to_its_last_slot_and_no_further(standin, decoder):
    session = standin(length=9).session
    row = tokens(9)
    session.prefill(row[None, :7])
    session.decode(row[7:8])
    check(session.decode(row[8:9]), decoder, row)
    with pytest.raises(ContextLengthError, match="1 more tokens after 9 cached positions exceed the maximum of 9"):
        session.decode(row[:1])
    session.truncate(8)
    with pytest.raises(ContextLengthError, match="--max-length"):
        session.prefill(row[None, :2])
    check(session.decode(row[8:9]), decoder, row)


def test_a_chunk_with_padding_fills_the_cache_to_its_last_slot(standin, decoder):
    """A row that has ended goes on with padding, which must not be written past the end either."""
    session = standin(length=8, chunk=3).session
    rows = [tokens(8, 1), tokens(2, 2)]
    ids, mask = np.zeros((2, 8), np.int64), np.zeros((2, 8), np.int64)
    for index, row in enumerate(rows):
        ids[index, 8 - len(row) :], mask[index, 8 - len(row) :] = row, 1
    check(session.prefill(ids, mask), decoder, *rows)


def test_a_lower_limit_than_the_plans(standin):
    assert standin(length=16, max_length=5).session.max_length == 5
    assert standin(length=16, max_length=99).session.max_length == 16


def test_steps_are_recorded_once_and_replayed(standin, decoder):
    under = standin()
    row = tokens(12)
    under.session.prefill(row[None, :5])
    for end in range(6, 12):
        check(under.session.decode(row[end - 1 : end]), decoder, row[:end])
    assert under.driver.launches == 5  # the first is run as it is, for TensorRT to set itself up
    assert len(under.driver.live_graphs) == 1


def test_a_prefill_between_leaves_the_recorded_step_good(standin, decoder):
    under = standin()
    row = tokens(16)
    under.session.prefill(row[None, :4])
    for end in (5, 6, 7):
        under.session.decode(row[end - 1 : end])
    under.session.prefill(row[None, 7:12])
    check(under.session.decode(row[12:13]), decoder, row[:13])
    assert under.driver.launches == 3


def test_another_batch_size_records_anew(standin, decoder):
    under = standin()
    for size in (1, 2, 1):
        under.session.reset(size)
        rows = tokens((size, 7), size)
        under.session.prefill(rows[:, :3])
        for column in range(3, 7):
            found = under.session.decode(rows[:, column])
        check(found, decoder, *rows)
        assert len(under.driver.live_graphs) == 1


def test_nothing_is_recorded_where_the_context_does_it_by_itself(standin, decoder):
    under = standin(records_steps=False)
    row = tokens(8)
    under.session.prefill(row[None, :4])
    for end in (5, 6, 7):
        check(under.session.decode(row[end - 1 : end]), decoder, row[:end])
    assert under.driver.launches == 0


def test_a_run_that_fails_leaves_the_session_as_it_was(standin, decoder):
    under = standin(reason=lambda: "out of luck")
    row = tokens(8)
    under.session.prefill(row[None, :4])
    under.decode.fails = True
    with pytest.raises(ArtifactError, match="out of luck"):
        under.session.decode(row[4:5])
    under.decode.fails = False
    assert under.session.length == 4
    check(under.session.decode(row[4:5]), decoder, row[:5])


def test_steps_that_cannot_be_recorded_are_run_one_by_one(standin, decoder, monkeypatch):
    from minimind_edge.runtime.tensorrt.cuda import CudaError

    under = standin()

    def refuse():
        under.driver.recording = None
        raise CudaError("operation not permitted when stream is capturing", 900)

    monkeypatch.setattr(under.driver, "end_capture", refuse)
    row = tokens(9)
    under.session.prefill(row[None, :4])
    for end in range(5, 10):
        check(under.session.decode(row[end - 1 : end]), decoder, row[:end])
    assert under.driver.launches == 0


def test_the_cache_can_be_looked_at(standin):
    """Padding is where the session counts it, and a row by itself has cached the same."""
    session = standin().session
    row = tokens(5)
    ids = np.stack([np.append([7, 7], row), np.append(row, [7, 7])])
    mask = np.array([[0, 0, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0, 0]])
    session.prefill(ids, mask)
    padded = session.cache()
    session.reset()
    session.prefill(row[None])
    alone = session.cache()
    assert len(padded) == len(alone) == 4
    for both, one in zip(padded, alone, strict=True):
        assert (both.shape, one.shape) == ((2, 2, 7, 16), (1, 2, 5, 16))
        assert not both[0, :, :2].any()
        assert not both[1, :, 5:].any()
        for found in (both[0, :, 2:], both[1, :, :5]):
            np.testing.assert_allclose(found, one[0], atol=1e-5)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_cache_comes_back_after_another_text(standin, decoder, precision):
    session = standin(precision).session
    row, other = tokens(9), tokens(14, 1)
    session.prefill(row[None, :7])
    kept = session.cache()
    session.reset()
    session.prefill(other[None])
    session.restore(kept)
    assert session.length == 7
    check(session.decode(row[7:8]), decoder, row[:8], precision=precision)
    session.truncate(5)
    check(session.prefill(row[None, 5:]), decoder, row, precision=precision)


def test_bad_calls_are_refused_before_anything_runs(standin):
    under = standin(batch_size=2)
    session = under.session
    for ids in (np.zeros((1, 0), np.int64), np.zeros(3, np.int64), np.zeros((1, 3))):
        with pytest.raises(PromptError, match=r"expected token ids \[B, S\]"):
            session.prefill(ids)
    with pytest.raises(PromptError, match=f"token id {VOCAB} is outside"):
        session.prefill(np.array([[3, VOCAB]]))
    with pytest.raises(PromptError, match="token id -1 is outside"):
        session.decode(np.array([-1]))
    with pytest.raises(PromptError, match="attention mask of 0 and 1"):
        session.prefill(np.array([[3, 4]]), np.array([[2, 1]]))
    with pytest.raises(UsageError, match="3 rows exceed the 2"):
        session.prefill(tokens((3, 2)))
    with pytest.raises(UsageError, match="batch_size must be at least 1"):
        session.reset(0)
    session.prefill(tokens((1, 2)))
    with pytest.raises(PromptError, match="expected a chunk for 1 rows, found 2"):
        session.prefill(tokens((2, 2)))
    with pytest.raises(PromptError, match="expected 1 token ids"):
        session.decode(np.array([1, 2]))
    with pytest.raises(UsageError, match="cannot keep 3 positions"):
        session.truncate(3)
    assert under.prefill.runs == 1


def test_a_generation_from_end_to_end(standin, decoder):
    """Greedy tokens of a padded batch are those of each row decoded by itself without a cache."""
    prompts = [list(map(int, tokens(6, 1))), list(map(int, tokens(3, 2)))]
    found = [[], []]
    for step in generate(standin().session, prompts, SamplingParams(greedy=True), max_new_tokens=10, stop_token_ids=()):
        for row, token in enumerate(step.token_ids):
            found[row].append(int(token))
    for prompt, answer in zip(prompts, found, strict=True):
        text = list(prompt)
        for token in answer:
            assert token == decoder.logits(text)[-1].argmax()
            text.append(token)
        assert len(answer) == 10
