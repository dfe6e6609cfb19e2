"""A single slot over a session, for graphs whose rows share their length, and the choice of it when one is loaded."""

from __future__ import annotations

import numpy as np
import pytest

from minimind_edge.runtime.batch.loading import load_slots
from minimind_edge.runtime.batch.session_slots import SingleSlot
from minimind_edge.runtime.errors import ContextLengthError, PromptError, UsageError

TARGETS = ["portable", "ort"]  # this ort graph is without the rows' lengths, as those of earlier versions are
ON = np.array([True])

pytestmark = pytest.mark.usefixtures("short_steps")


@pytest.fixture(params=TARGETS)
def open_slot(request, save_graph):
    def load(**arguments):
        path = save_graph(request.param, target=request.param)
        return load_slots(path, **{"slots": 1, "threads": 1, "device": "cpu"} | arguments)

    return load


def random_ids(count, seed=0):
    return np.random.default_rng(seed).integers(0, 32, count)


def check(found, decoder, ids):
    expected = decoder.logits(ids[None])[0, -1]
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


def test_chunks_and_steps(open_slot, decoder):
    slot = open_slot()
    ids = random_ids(14)
    for start, end in ((0, 6), (6, 7), (7, 12)):
        check(slot.prefill(0, ids[start:end]), decoder, ids[:end])
        assert slot.lengths.tolist() == [end]
    slot.decode(ids[:1], ~ON)
    assert slot.lengths.tolist() == [12]
    for end in (13, 14):
        check(slot.decode(ids[end - 1 : end], ON)[0], decoder, ids[:end])
    assert slot.lengths.tolist() == [14]
    assert slot.run_s > 0
    assert slot.kv_cache_bytes > 0


def test_positions_come_back_after_another_text(open_slot, decoder):
    slot = open_slot()
    ids, other = random_ids(20), random_ids(40, seed=1)
    slot.prefill(0, ids[:15])
    kept = slot.read(0, 13)
    assert [each.shape for each in kept] == [(2, 13, 8)] * 4
    slot.truncate(0, 0)
    check(slot.prefill(0, other), decoder, other)
    for length in (13, 5, 12):
        slot.write(0, kept, length)
        assert slot.lengths.tolist() == [length]
        check(slot.prefill(0, ids[length:18]), decoder, ids[:18])
        check(slot.decode(ids[18:19], ON)[0], decoder, ids[:19])
    slot.copy(0, 0, 7)
    check(slot.prefill(0, ids[7:]), decoder, ids)
    slot.write(0, kept, 0)
    check(slot.prefill(0, other), decoder, other)


def test_bad_calls_leave_the_slot_as_it_was(open_slot):
    slot = open_slot(max_length=9)
    slot.prefill(0, random_ids(8))
    kept = slot.read(0, 8)
    for call, error, message in (
        (lambda: slot.prefill(1, random_ids(1)), UsageError, "no slot 1 among 1"),
        (lambda: slot.prefill(0, random_ids((1, 1))), PromptError, r"expected token ids \[S\]"),
        (lambda: slot.prefill(0, random_ids(2)), ContextLengthError, "2 more tokens after 8"),
        (lambda: slot.decode(random_ids(2), ON), PromptError, "expected one token id"),
        (lambda: slot.decode(np.array([32]), ON), PromptError, "token id 32"),
        (lambda: slot.truncate(0, 9), UsageError, "0 to 8 positions, which slot 0 holds, found 9"),
        (lambda: slot.copy(0, 1, 2), UsageError, "no slot 1"),
        (lambda: slot.write(0, kept, 9), UsageError, "cannot write 9 of 8 positions"),
        (lambda: slot.write(0, kept[:2], 3), UsageError, "4 arrays"),
    ):
        with pytest.raises(error, match=message):
            call()
        assert slot.lengths.tolist() == [8]


@pytest.mark.parametrize(("target", "remedy"), [("portable", "export it for target ort"), ("ort", "export it again")])
def test_fewer_slots_than_asked_for_are_remarked(save_graph, target, remedy):
    path = save_graph(target, target=target)
    slot = load_slots(path, slots=4, threads=1, device="cpu")
    assert isinstance(slot, SingleSlot)
    assert slot.slots == 1
    assert slot.remark.startswith("one request at a time instead of 4: ")
    assert remedy in slot.remark
    assert load_slots(path, slots=1, threads=1, device="cpu").remark is None


def test_a_cache_of_another_shape_is_not_restored(load):
    session = load("portable", max_length=6)
    session.prefill(random_ids((1, 5)))
    cache = session.cache()
    for other, message in (
        (cache[1:], "not 4 arrays of shape"),
        ([each[:, :1] for each in cache], r"shape \(1, 2, 5, 8\)"),
        ([each.repeat(2, axis=2) for each in cache], "cannot restore 10 positions in a session of at most 6"),
        ([], "not 4 arrays"),
    ):
        with pytest.raises(UsageError, match=message):
            session.restore(other)
    assert session.length == 5
    session.reset(2)
    with pytest.raises(UsageError, match=r"shape \(2, 2, 5, 8\)"):
        session.restore(cache)
