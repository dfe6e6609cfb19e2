"""Slots: rows of their own length join and leave, and each request's tokens are those of eager PyTorch alone."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from graph_files import write_graph
from graph_rows import VARIANTS, eager_greedy, eager_row, make_model
from rounded_weights import quantized

from minimind_edge.export.bundled import bundled_checkpoint
from minimind_edge.export.graph.ort import WHOLE_SCORES
from minimind_edge.export.quantization.kv_cache_scales import cache_scales
from minimind_edge.minimind import load_checkpoint
from minimind_edge.runtime.batch.loading import load_slots
from minimind_edge.runtime.batch.ort_slots import OrtSlots
from minimind_edge.runtime.errors import ArtifactError, ContextLengthError, PromptError, UsageError
from minimind_edge.runtime.interruption import allow_runs, interrupt_runs
from minimind_edge.runtime.ort.loading import open_graph

MAX_LENGTH = 192


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Any, Path]]:
    """A model and its graph in fp32, made once: a variant of `graph_rows`, `demo` or `MoE demo`."""

    @functools.cache
    def make(name: str) -> tuple[Any, Path]:
        model = load_checkpoint(bundled_checkpoint(moe="MoE" in name)) if "demo" in name else make_model(name)
        return model, write_graph(tmp_path_factory.mktemp(name), model, max_length=MAX_LENGTH)

    return make


def open_slots(path: Path, slots: int, **arguments: Any) -> OrtSlots:
    return OrtSlots(*open_graph(path, "cpu", 1), slots=slots, **arguments)


def prompts(count: int, vocab_size: int, seed: int = 0) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(3, vocab_size, rng.integers(1, 40)).tolist() for _ in range(count)]


def prefill(session: OrtSlots, slot: int, tokens: list[int], chunk: int) -> int:
    """Run a prompt in chunks; the likeliest next token."""
    for start in range(0, len(tokens), chunk):
        logits = session.prefill(slot, np.array(tokens[start : start + chunk]))
    return int(logits.argmax())


def served(session: OrtSlots, requests: list[list[int]], sizes: list[int]) -> list[list[int]]:
    """Greedy answers of requests that join random slots at random steps, and leave at their end."""
    rng = np.random.default_rng(1)
    waiting, running = list(range(len(requests))), dict[int, int]()
    answers: list[list[int]] = [[] for _ in requests]
    while waiting or running:
        for slot in rng.permutation(session.slots).tolist():
            if slot not in running and waiting and rng.random() < 0.3:
                request = waiting.pop(0)
                session.truncate(slot, 0)
                running[slot] = request
                answers[request].append(prefill(session, slot, requests[request], int(rng.integers(1, 20))))
        if not running:
            continue
        count = max(running) + 1
        active = np.array([slot in running for slot in range(count)])
        tokens = [answers[running[slot]][-1] if slot in running else -1 for slot in range(count)]
        logits = session.decode(np.array(tokens), active)
        for slot, request in list(running.items()):
            answers[request].append(int(logits[slot].argmax()))
            if len(answers[request]) == sizes[request]:
                del running[slot]
    return answers


@pytest.fixture(scope="module", params=["demo", *VARIANTS])
def requests_and_answers(request: pytest.FixtureRequest, graphs: Any) -> tuple[Path, list[list[int]], list[list[int]]]:
    """A graph, prompts, and eager PyTorch's greedy answer to each of them, of 8 tokens or a few more."""
    model, path = graphs(request.param)
    asked = prompts(8, model.config.vocab_size)
    return path, asked, [eager_greedy(model, prompt, 8 + number % 5) for number, prompt in enumerate(asked)]


@pytest.mark.parametrize("even_rows", [False, True])
def test_rows_that_join_and_leave_give_the_tokens_of_each_request_alone(requests_and_answers, even_rows):
    path, asked, expected = requests_and_answers
    assert served(open_slots(path, 5, even_rows=even_rows), asked, [len(answer) for answer in expected]) == expected


def test_a_graph_that_is_loaded_has_the_slots_asked_for(graphs):
    session = load_slots(graphs("gqa")[1], slots=3, max_length=50, threads=1, device="cpu")
    assert isinstance(session, OrtSlots)
    assert (session.slots, session.max_length, session.vocab_size) == (3, 50, 131)
    assert session.remark is None
    # 2 layers, key and value, 3 rows, 2 heads of 16 float32, 50 positions and one for padding
    assert session.kv_cache_bytes == 2 * 2 * 3 * 2 * 16 * 4 * 51
    with pytest.raises(UsageError, match="slots must be at least 1"):
        load_slots(graphs("gqa")[1], slots=0)


def test_each_rows_positions_are_those_that_eager_caches(graphs):
    model, path = graphs("gqa")
    session = open_slots(path, 3)
    prompt = np.random.default_rng(0).integers(3, 131, 30)
    session.prefill(2, np.arange(3, 40))
    session.prefill(1, prompt[:20])
    for token in prompt[20:]:
        session.decode(np.array([0, token, 7]), np.array([False, True, True]))
    assert session.lengths.tolist() == [0, 30, 47]
    cached = eager_row(model, prompt, np.arange(30)).presents
    for found, expected in zip(session.read(1, 30), cached, strict=True):
        assert found.shape == expected.shape == (2, 30, 16)
        np.testing.assert_allclose(found, expected, atol=1e-4)  # as in the comparison of graphs


@pytest.mark.parametrize("even_rows", [False, True])
def test_a_row_is_filled_to_its_last_position_and_no_further(graphs, even_rows):
    model, path = graphs("gqa")
    session = open_slots(path, 2, max_length=21, even_rows=even_rows)
    prompt = np.random.default_rng(0).integers(3, 131, 21)
    session.prefill(0, prompt[:12])
    logits = session.prefill(0, prompt[12:]).copy()  # an odd number, up to the end
    np.testing.assert_allclose(logits, eager_row(model, prompt, np.arange(21)).logits[-1], atol=1e-4)
    session.prefill(1, prompt[:20])
    np.testing.assert_allclose(session.decode(prompt[[20, 20]], np.array([False, True]))[1], logits, atol=1e-4)
    assert session.lengths.tolist() == [21, 21]
    with pytest.raises(ContextLengthError, match="1 more tokens after 21 cached positions exceed the maximum of 21"):
        session.decode(np.array([5]), np.array([True]))
    with pytest.raises(ContextLengthError, match="3 more tokens after 21"):
        session.prefill(1, prompt[:3])
    session.truncate(0, 0)
    session.decode(np.array([5, 5]), np.array([True, False]))  # next to a full row
    assert session.lengths.tolist() == [1, 21]


def test_positions_that_were_copied_kept_or_written_back_go_on_as_the_whole_text(graphs):
    model, path = graphs("demo")
    session = open_slots(path, 4, even_rows=True)
    prompt, others = prompts(1, 2048, seed=5)[0] * 2, prompts(3, 2048, seed=6)
    for slot, other in enumerate(others, 1):
        session.prefill(slot, np.array(other))
    session.prefill(0, np.array(prompt))
    half = len(prompt) // 2
    session.copy(0, 1, half)
    kept = session.read(0, half)
    session.truncate(0, half)
    session.prefill(0, np.array(others[0]))
    session.write(2, kept, half - 1)
    session.truncate(0, half)
    expected = eager_greedy(model, prompt, 1)
    assert session.lengths.tolist()[:3] == [half, half, half - 1]
    for slot in range(3):
        assert prefill(session, slot, prompt[session.lengths[slot] :], 7) == expected[0]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda it: it.prefill(2, np.array([5])), UsageError, "no slot 2 among 2"),
        (lambda it: it.prefill(-1, np.array([5])), UsageError, "no slot -1"),
        (lambda it: it.prefill(0, np.array([], np.int64)), PromptError, "at least one"),
        (lambda it: it.prefill(0, np.array([[5]])), PromptError, r"found int64 \(1, 1\)"),
        (lambda it: it.prefill(0, np.array([131])), PromptError, "token id 131 is outside"),
        (lambda it: it.prefill(0, np.array([0.5])), PromptError, "found float64"),
        (lambda it: it.decode(np.array([5, -1]), np.ones(2, bool)), PromptError, "token id -1 is outside"),
        (lambda it: it.decode(np.array([5, 5, 5]), np.ones(3, bool)), PromptError, "1 to 2 token ids"),
        (lambda it: it.decode(np.array([5, 5]), np.ones(1, bool)), PromptError, "2 flags"),
        (lambda it: it.decode(np.array([5, 5]), np.ones(2, np.int64)), PromptError, "2 flags of active rows"),
        (lambda it: it.truncate(0, 5), UsageError, "0 to 4 positions, which slot 0 holds, found 5"),
        (lambda it: it.copy(0, 1, 5), UsageError, "0 to 4 positions"),
        (lambda it: it.copy(0, 2, 1), UsageError, "no slot 2"),
        (lambda it: it.read(0, -1), UsageError, "0 to 4 positions"),
        (lambda it: it.write(0, it.read(0, 3), 4), UsageError, "4 of 3 positions"),
        (lambda it: it.write(0, it.read(0, 3)[1:], 3), UsageError, "4 arrays"),
        (lambda it: it.write(0, [each[:, :, :8] for each in it.read(0, 3)], 3), UsageError, r"shape \(2, 3, 16\)"),
    ],
)
def test_bad_calls_leave_the_slots_as_they_were(graphs, call, error, message):
    session = open_slots(graphs("gqa")[1], 2)
    session.prefill(0, np.array([5, 6, 7, 8]))
    with pytest.raises(error, match=message):
        call(session)
    assert session.lengths.tolist() == [4, 0]


def test_a_run_that_is_stopped_leaves_the_lengths_and_can_be_repeated(graphs):
    model, path = graphs("gqa")
    session = open_slots(path, 2)
    prompt = [5, 9, 2, 7]
    session.prefill(0, np.array(prompt[:3]))
    interrupt_runs()
    try:
        with pytest.raises(ArtifactError, match="terminate"):
            session.prefill(0, np.array(prompt[3:]))
        with pytest.raises(ArtifactError, match="terminate"):
            session.decode(np.array(prompt[3:]), np.array([True]))
    finally:
        allow_runs()
    assert session.lengths.tolist() == [3, 0]
    logits = session.decode(np.array(prompt[3:]), np.array([True]))
    assert [int(logits[0].argmax())] == eager_greedy(model, prompt, 1)


def test_memory_that_no_position_touches_is_not_taken(graphs):
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    session = open_slots(graphs("demo")[1], 4096)
    session.prefill(4095, np.array([5, 6, 7]))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before  # KiB
    assert session.kv_cache_bytes > 700 << 20
    assert grown < 200 << 10


EXACT = {
    "fp32": False,
    "fp32 with an int8 cache": False,
    "fp32 of the MoE demo": True,
    "int8": True,
    "int8 of the MoE demo": True,
    "int4": True,
    "int4 with an int8 cache": True,
    "int4 of the MoE demo": True,
}
"""What a demo is exported as, and whether the rows of a step must be even for the same bits."""


ATTENTION = {"whole rows of scores": MAX_LENGTH, "flash attention": WHOLE_SCORES + 1}
"""The two kernels of attention, and the longest context of a graph that is computed by each."""


@pytest.fixture(scope="module", params=itertools.product(EXACT, ATTENTION), ids=" in ".join)
def exact(request: pytest.FixtureRequest, graphs: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Opens slots on the demo in a precision, with the attention of short contexts or that of long ones."""
    export, attention = request.param
    model, _ = graphs("MoE demo" if "MoE" in export else "demo")
    precision, cache = export.partition(" ")[0], "cache" in export
    matrices = {"int8": 8, "int4": 4}.get(precision)
    scales = cache_scales(model, torch.arange(3, 1027).reshape(4, 256)) if cache else None
    folder = tmp_path_factory.mktemp("exact")
    integers = quantized(model, matrices, 64) if matrices else None  # in blocks of 32 or less, an odd row is no other
    options = {"quantized": integers, "cache_scales": scales}
    path = write_graph(folder, model, "ort", precision, ATTENTION[attention], **options)

    def make(slots: int) -> OrtSlots:
        graph = open_graph(path, "cpu", 1)
        session = OrtSlots(*graph, slots=slots, max_length=MAX_LENGTH, even_rows=EXACT[export])
        session.has_int8_cache = cache
        return session

    return make


PROMPT = np.random.default_rng(3).integers(3, 2048, 150)
FORCED = np.random.default_rng(4).integers(3, 2048, 3)


def decoded(session: OrtSlots, slot: int, count: int) -> np.ndarray:
    """The logits of one slot, whose tokens are given, in a batch of `count` rows whose tokens are random."""
    rng = np.random.default_rng(count + 100 * slot)
    found = []
    for token in FORCED:
        tokens = rng.integers(3, 2048, count)
        tokens[slot] = token
        active = rng.random(count) < 0.8
        active[slot] = True
        found.append(session.decode(tokens, active)[slot].copy())
    return np.stack(found)


def test_a_rows_bits_do_not_depend_on_the_batch(exact):
    alone = exact(1)
    alone.prefill(0, PROMPT)
    expected = decoded(alone, 0, 1)
    rng = np.random.default_rng(0)
    session = exact(33)
    lengths = rng.integers(1, 60, 33)
    for slot, length in enumerate(lengths):
        session.prefill(slot, rng.integers(3, 2048, length))
    for count in (1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 31, 32, 33):
        for slot in {0, count // 2, count - 1}:
            for other, length in enumerate(lengths):
                session.truncate(other, min(length, session.lengths[other]))
            session.write(slot, alone.read(0, len(PROMPT)), len(PROMPT))
            assert np.array_equal(decoded(session, slot, count), expected), (count, slot)


def test_a_prompts_bits_do_not_depend_on_its_chunks_or_on_a_prefix_that_was_copied(exact):
    session = exact(3)
    expected = session.prefill(0, PROMPT).copy()
    cached = session.read(0, len(PROMPT))
    session.prefill(1, np.arange(9, 60))
    for chunk in (149, 148, 129, 128, 65, 64, 33, 20, 7, 1):  # attention to floats takes blocks of 64 tokens
        session.truncate(1, 0)
        for start in range(0, len(PROMPT), chunk):
            logits = session.prefill(1, PROMPT[start : start + chunk])
        assert np.array_equal(logits, expected), chunk
        assert all(map(np.array_equal, session.read(1, len(PROMPT)), cached)), chunk
    for length in (1, 2, 21, 85, 148, 149):
        session.copy(0, 2, length)
        assert np.array_equal(session.prefill(2, PROMPT[length:]), expected), length


def test_an_int8_caches_positions_are_the_same_by_steps_and_by_chunks(exact):
    session = exact(2)
    if not session.has_int8_cache:
        pytest.skip("a cache of floats differs in its last bits")
    expected = session.prefill(0, PROMPT).copy()
    session.prefill(1, PROMPT[:121])
    for token in PROMPT[121:]:
        logits = session.decode(np.array([0, token]), np.array([False, True]))
    assert np.array_equal(logits[1], expected)
    assert all(map(np.array_equal, session.read(1, len(PROMPT)), session.read(0, len(PROMPT))))
