"""Graphs of every target against eager PyTorch: architectures, padding, chunks, caches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from graph_files import write_graph
from graph_rows import (
    CAPACITY,
    VARIANTS,
    Batch,
    GraphRunner,
    eager_greedy,
    largest_errors,
    make_model,
)

LOGITS, PRESENTS = 1e-5, 1e-4
"""A tenth of what the project promises for float32, and room for the order of a sum."""


@pytest.fixture(scope="module", params=VARIANTS)
def model(request):
    return make_model(request.param)


@pytest.fixture(scope="module", params=["portable-growing", "ort-growing", "ort-shared"])
def runner(request, model, tmp_path_factory) -> GraphRunner:
    target, cache = request.param.split("-")
    path = write_graph(tmp_path_factory.mktemp("graph"), model, target, max_length=CAPACITY)
    return GraphRunner(path, shared=cache == "shared")


def splits_of(length: int) -> list[tuple[int, ...]]:
    """At once; a prompt and single steps; chunks of several tokens behind a past; every token alone."""
    return [(length,), (length - 3, 1, 1, 1), (2, length - 3, 1), (1,) * length]


@pytest.mark.parametrize("padding", ["none", "left", "right"])
def test_each_row_is_what_eager_gives_it_alone(model, runner, padding):
    batch = Batch.of(padding)
    for splits in splits_of(batch.ids.shape[1]):
        output = runner.run(batch, splits)
        assert np.isfinite(output.logits).all(), splits
        logits, presents = largest_errors(model, batch, output)
        assert logits < LOGITS, splits
        assert presents < PRESENTS, splits


def test_positions_are_the_callers(model, runner):
    # Far positions, as behind a long past; a chunk of several tokens, so that RoPE's differences count.
    limit = (
        CAPACITY - 12 if runner.session.get_modelmeta().custom_metadata_map["minimind_edge.target"] == "ort" else 30000
    )
    batch = Batch.of("left", offset=limit)
    logits, presents = largest_errors(model, batch, runner.run(batch, (4, batch.ids.shape[1] - 4)))
    assert logits < LOGITS
    assert presents < PRESENTS


def test_greedy_text_is_eagers(model, runner):
    prompt, steps = [5, 9, 2, 7], 20
    expected = eager_greedy(model, prompt, steps)
    assert len(set(expected)) > 3  # a text that stands still would prove little
    tokens = list(prompt)
    for _ in range(steps):
        ids = np.array([tokens])
        batch = Batch(ids, np.ones_like(ids), np.arange(len(tokens))[None])
        splits = (len(prompt),) + (1,) * (len(tokens) - len(prompt))
        tokens.append(int(runner.run(batch, splits).logits[0, -1].argmax()))
    assert tokens[len(prompt) :] == expected


@pytest.mark.parametrize("target", ["portable", "ort"])
@pytest.mark.parametrize("variant", ["gqa", "moe"])
@pytest.mark.parametrize("activation", ["gelu", "gelu_pytorch_tanh", "relu"])
def test_other_activations(variant, target, activation, tmp_path: Path):
    model = make_model(variant, hidden_act=activation)
    path = write_graph(tmp_path, model, target, max_length=CAPACITY)
    batch = Batch.of("left")
    output = GraphRunner(path, shared=target == "ort").run(batch, (batch.ids.shape[1],))
    assert largest_errors(model, batch, output)[0] < LOGITS


@pytest.mark.parametrize("target", ["portable", "ort"])
def test_yarn_beyond_its_original_context(target, tmp_path: Path):
    # Positions that only YaRN's frequencies get right; and what it would be without them is far off.
    model = make_model("gqa", inference_rope_scaling=True)
    path = write_graph(tmp_path, model, target, max_length=4096)
    batch = Batch.of("none", offset=3000)
    runner = GraphRunner(path, shared=False)
    output = runner.run(batch, (batch.ids.shape[1],))
    assert largest_errors(model, batch, output)[1] < PRESENTS
    model.set_rope_scaling(False)
    assert largest_errors(model, batch, output)[1] > 0.1


@pytest.mark.parametrize("target", ["portable", "ort"])
def test_one_changed_weight_shows(target, tmp_path: Path):
    model = make_model("gqa")
    path = write_graph(tmp_path, model, target, max_length=CAPACITY)
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[3, 4] += 0.1
    batch = Batch.of("none")
    output = GraphRunner(path, shared=False).run(batch, (batch.ids.shape[1],))
    assert largest_errors(model, batch, output)[0] > LOGITS
