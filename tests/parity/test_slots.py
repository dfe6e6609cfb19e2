"""Slots: rows of their own length join and leave, and each request's tokens are those of eager PyTorch alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from graph_rows import VARIANTS, eager_greedy, make_model

from minimind_edge.export.bundled import bundled_checkpoint
from minimind_edge.export.graph import build_graph, save_graph
from minimind_edge.minimind import load_checkpoint
from minimind_edge.runtime.batch.ort_slots import OrtSlots
from minimind_edge.runtime.ort.loading import open_graph

MAX_LENGTH = 96


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Any, Path]]:
    """A model and its graph in fp32, made once: a variant of `graph_rows`, or `demo`."""
    made: dict[str, tuple[Any, Path]] = {}

    def make(name: str) -> tuple[Any, Path]:
        if name not in made:
            model = load_checkpoint(bundled_checkpoint(moe=False)) if name == "demo" else make_model(name)
            path = tmp_path_factory.mktemp(name) / "model.onnx"
            save_graph(build_graph(model, "ort", "fp32", MAX_LENGTH), path)
            made[name] = model, path
        return made[name]

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


def served(session: OrtSlots, requests: list[list[int]], steps: int) -> list[list[int]]:
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
            if len(answers[request]) == steps + request % 5:
                del running[slot]
    return answers


@pytest.mark.parametrize("even_rows", [False, True])
@pytest.mark.parametrize("name", ["demo", *VARIANTS])
def test_rows_that_join_and_leave_give_the_tokens_of_each_request_alone(graphs, name, even_rows):
    model, path = graphs(name)
    session = open_slots(path, 5, even_rows=even_rows)
    requests = prompts(12, model.config.vocab_size)
    answers = served(session, requests, 8)
    for request, answer in zip(requests, answers, strict=True):
        assert answer == eager_greedy(model, request, len(answer))
