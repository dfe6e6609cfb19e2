"""Sessions with native operators: eager PyTorch's tokens, and its logits by the same gate as every export."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from graph_files import write_graph
from graph_rows import eager_greedy, make_model
from rounded_weights import quantized, with_weights

from minimind_edge.export.parity import compare
from minimind_edge.export.parity.graph_file import can_be_native
from minimind_edge.export.parity.tolerance import rounded_weights_tolerance
from minimind_edge.runtime import SamplingParams, generate
from minimind_edge.runtime import speculation as speculation_module
from minimind_edge.runtime.batch.loading import load_slots
from minimind_edge.runtime.batch.ort_slots import OrtSlots
from minimind_edge.runtime.load import load_session

GREEDY = SamplingParams(greedy=True)
MAX_LENGTH = 160

SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "minimind2": ("gqa", {"head_dim": 64}),
    "one-head": ("mqa", {"head_dim": 128}),
    "minimind3": ("minimind3", {"head_dim": 96}),
    "minimind3-moe": ("minimind3-moe", {"head_dim": 64}),
}
"""Each width of a head, groups of 2 and of 4 queries, with norms of queries and keys and without, and experts."""

LOGITS = 1e-5
"""Between native and stock operators, over the largest logit: the sums of float32 are taken in another order, and the
exponential function is another one, each off by some 1e-7 of its result."""

Graph = tuple[Any, Path]


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Graph]:
    """A model of `SHAPES` and its graph in float32, made once."""

    @functools.cache
    def make(shape: str) -> Graph:
        variant, fields = SHAPES[shape]
        model = make_model(variant, **fields)
        return model, write_graph(tmp_path_factory.mktemp(shape), model, max_length=MAX_LENGTH)

    return make


@pytest.fixture(params=SHAPES)
def graph(request: pytest.FixtureRequest, graphs: Callable[[str], Graph]) -> Graph:
    return graphs(request.param)


def tokens_of(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(3, 131, count)


def test_parity_compares_native_operators_too_and_passes(graph):
    """Prompts whole and in chunks, both sides padded, rows of own positions, in one buffer and in two."""
    model, path = graph
    report = compare(model, path, target="ort", precision="fp32", native=True, steps=24)
    assert report, report.failures
    ways = {one.runner for one in report.measurements}
    own = {f"{way}, native operators" for way in ("graph", "graph, one buffer", "session")}
    assert ways == own | {"graph", "graph, one buffer", "session"}
    tokens = {way: sum(one.tokens for one in report.measurements if one.runner == way) for way in ways}
    assert all(tokens[way] == tokens[way.removesuffix(", native operators")] > 0 for way in own)


def test_a_comparison_without_them_runs_stock_operators_only(graphs):
    model, path = graphs("minimind2")
    report = compare(model, path, target="ort", precision="fp32", steps=4)
    assert not any("native" in one.runner for one in report.measurements)


@pytest.mark.parametrize("threads", [1, 2])
def test_logits_are_those_of_stock_operators_in_another_order(graph, threads):
    _, path = graph
    native, stock = load_session(path, threads=threads), load_session(path, threads=threads, native=False)
    assert (native.facts.operators, stock.facts.operators) == ("native", "stock")
    ids = tokens_of(120)
    for session in (native, stock):
        session.reset()
    for start, stop in ((0, 64), (64, 100), *((at, at + 1) for at in range(100, 120))):
        expected, found = (session.prefill(ids[None, start:stop]) for session in (stock, native))
        assert np.abs(found - expected).max() <= LOGITS * np.abs(expected).max()
    for found, expected in zip(native.cache(), stock.cache(), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-4)  # as in the comparison of graphs


@pytest.mark.parametrize(("bits", "variant"), [(4, "gqa"), (8, "minimind3")])
def test_quantized_weights_with_gates_are_eager_with_the_integers_values(tmp_path, bits, variant):
    model = make_model(variant, head_dim=64)
    matrices = quantized(model, bits, 32, zero_points=True)
    path = write_graph(tmp_path, model, "ort", f"int{bits}", MAX_LENGTH, quantized=matrices)
    graph = onnx.load(path)
    for attribute in (each for node in graph.graph.node for each in node.attribute):
        if attribute.name == "accuracy_level":
            attribute.i = 1  # float activations: the rest is the rounding of float32
    onnx.save(graph, path)
    report = compare(with_weights(model, matrices), path, target="ort", precision=f"int{bits}", native=True, steps=16)
    found = [one for one in report.measurements if one.runner.endswith("native operators")]
    assert len(found) == len(report.measurements) / 2 > 0
    assert max(one.logits.max_rel for one in found) < 1e-5  # as in test_graph_block_weights.py


@pytest.mark.parametrize(("bits", "variant"), [(4, "gqa"), (8, "minimind3"), (4, "minimind3-moe")])
def test_quantized_products_are_eager_with_the_integers_values_up_to_rounded_activations(tmp_path, bits, variant):
    model = make_model(variant, head_dim=64)
    matrices = quantized(model, bits, 32, zero_points=True)
    path = write_graph(tmp_path, model, "ort", f"int{bits}", MAX_LENGTH, quantized=matrices)
    report = compare(
        with_weights(model, matrices),
        path,
        target="ort",
        precision=f"int{bits}",
        native=True,
        steps=16,
        tolerance=rounded_weights_tolerance(model.config.num_hidden_layers),
    )
    assert report, report.failures
    assert sum(one.runner.endswith("native operators") for one in report.measurements) > 0


def test_greedy_batches_with_padding_give_each_rows_own_tokens(graph):
    model, path = graph
    prompts = [tokens_of(count, seed).tolist() for seed, count in enumerate((3, 41, 17))]
    session = load_session(path, threads=1, prefill_chunk=16)
    assert session.facts.operators == "native"
    rows = np.array([step.token_ids for step in generate(session, prompts, GREEDY, 12)]).T
    assert rows.tolist() == [eager_greedy(model, prompt, 12) for prompt in prompts]


def test_speculation_changes_no_token(graph, monkeypatch):
    monkeypatch.setattr(
        speculation_module.DraftBudget, "affordable", property(lambda budget: 7 if budget._step_s else 0)
    )
    _, path = graph
    prompt = [*tokens_of(12).tolist()] * 4  # repeats itself, so that there are drafts
    found = []
    for speculate in (False, True):
        generation = generate(load_session(path, threads=1), [prompt], GREEDY, 40, speculate=speculate)
        found.append([step.token_ids[0] for step in generation])
    assert found[0] == found[1]
    assert generation.timings.drafted > 0


def slots_of(path: Path, slots: int, **arguments: Any) -> OrtSlots:
    session = load_slots(path, slots=slots, threads=1, device="cpu", **arguments)
    assert isinstance(session, OrtSlots)
    assert session.facts.operators == "native"
    return session


@pytest.mark.parametrize("even_rows", [False, True])
def test_rows_of_own_lengths_join_leave_and_reuse_prefixes(graph, even_rows):
    model, path = graph
    session = slots_of(path, 4, even_rows=even_rows)
    prompts = [tokens_of(count, seed) for seed, count in enumerate((5, 38, 1, 24))]
    prompts.append(np.concatenate([prompts[1][:30], tokens_of(6, 9)]))  # begins as the second does
    answers: dict[int, list[int]] = {}

    def begin(slot: int, request: int, held: int = 0) -> None:
        session.truncate(slot, held)
        for start in range(held, len(prompts[request]), 11):
            logits = session.prefill(slot, prompts[request][start : start + 11])
        answers[request] = [int(logits.argmax())]

    def step(running: dict[int, int]) -> None:
        count = max(running) + 1
        active = np.array([slot in running for slot in range(count)])
        tokens = np.array([answers[running[slot]][-1] if slot in running else 0 for slot in range(count)])
        logits = session.decode(tokens, active)
        for slot, request in running.items():
            answers[request].append(int(logits[slot].argmax()))

    begin(3, 0)
    begin(1, 1)
    for _ in range(4):
        step({3: 0, 1: 1})
    begin(0, 2)
    session.copy(1, 2, 30)
    begin(2, 4, held=30)
    for _ in range(5):
        step({0: 2, 1: 1, 2: 4})  # the first request has left, and its row stays idle
    begin(3, 3)
    for _ in range(3):
        step({0: 2, 2: 4, 3: 3})
    for request, answer in answers.items():
        assert answer == eager_greedy(model, prompts[request].tolist(), len(answer)), request


def test_a_rows_bits_do_not_depend_on_its_neighbours(graphs):
    _, path = graphs("minimind3")
    prompt, others = tokens_of(20), tokens_of(50, 1)

    def cache(neighbours: bool) -> list[np.ndarray]:
        session = slots_of(path, 4)
        for slot in (0, 1, 3) if neighbours else ():
            session.prefill(slot, others[: 10 + 10 * slot])
        session.prefill(2, prompt)
        for token in prompt[:6]:
            session.decode(np.array([7, 8, token, 9]), np.array([neighbours, neighbours, True, neighbours]))
        return session.read(2, 26)

    for alone, together in zip(cache(False), cache(True), strict=True):
        assert np.array_equal(alone, together)


@pytest.mark.parametrize("kind", ["heads of 32", "int8 cache", "turned off"])
def test_what_they_do_not_compute_runs_with_stock_operators(tmp_path, monkeypatch, kind):
    from minimind_edge.export.quantization.kv_cache_scales import cache_scales

    model = make_model("gqa", head_dim=32 if kind == "heads of 32" else 64)
    scales = cache_scales(model, torch.arange(5, 25)[None]) if kind == "int8 cache" else None
    path = write_graph(tmp_path, model, cache_scales=scales)
    if kind == "turned off":
        assert can_be_native(path)
        monkeypatch.setenv("MINIMIND_EDGE_NATIVE", "0")
    assert not can_be_native(path)
    session = load_session(path, threads=1)
    assert session.facts.operators == "stock"
    if scales is None:
        prompt = tokens_of(9).tolist()
        assert [step.token_ids[0] for step in generate(session, [prompt], GREEDY, 6)] == eager_greedy(model, prompt, 6)
