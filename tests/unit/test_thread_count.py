"""The number of threads: how it is chosen from measured times, and that it is measured once and kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

import pytest

from minimind_edge.runtime import thread_count
from minimind_edge.runtime.errors import ArtifactError
from minimind_edge.runtime.thread_count import best_threads, counts_up_to


@pytest.fixture
def graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "model.onnx"
    path.write_bytes(b"a graph")
    return path


class Measurements:
    """Stands in for the measurement: the seconds of a step by the number of threads, and what was asked for."""

    def __init__(self, seconds: dict[int, float]) -> None:
        self.seconds = seconds
        self.asked: list[tuple[int, int]] = []

    def __call__(self, graph: Path, rows: int, threads: int) -> float:
        self.asked.append((rows, threads))
        return self.seconds[threads]


def measured(monkeypatch: pytest.MonkeyPatch, seconds: dict[int, float]) -> Measurements:
    stand_in = Measurements(seconds)
    monkeypatch.setattr(thread_count, "_step_seconds", stand_in)
    return stand_in


def ignore(line: str) -> None:
    pass


@pytest.mark.parametrize(
    ("most", "counts"), [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])]
)
def test_powers_of_two_and_all_cores_are_tried(most, counts):
    assert counts_up_to(most) == counts


@pytest.mark.parametrize(
    ("seconds", "expected", "tried"),
    [
        ({1: 1.0, 2: 0.6, 4: 0.4, 6: 0.39}, 4, [1, 2, 4, 6]),  # 6 threads gain less than 3 %
        ({1: 1.0, 2: 0.99, 4: 0.9, 6: 0.8}, 6, [1, 2, 4, 6]),
        ({1: 1.0, 2: 1.1, 4: 1.2}, 1, [1, 2, 4]),  # a fifth slower: 6 are not tried
        ({1: 1.0, 2: 0.5, 4: 0.6}, 2, [1, 2, 4]),
    ],
)
def test_the_fewest_threads_that_none_is_clearly_faster_than(graph, monkeypatch, seconds, expected, tried):
    times = measured(monkeypatch, seconds)
    assert best_threads(graph, device="cpu", rows=8, most=6, tell=ignore) == expected
    assert times.asked == [(8, count) for count in tried]


def test_it_is_measured_once_for_a_model_a_machine_and_a_number_of_rows(graph, monkeypatch):
    times, told = measured(monkeypatch, {1: 1.0, 2: 0.5}), []
    assert best_threads(graph, device="cpu", most=2) is None  # only a kept number was asked for
    assert best_threads(graph, device="cpu", most=2, tell=told.append) == 2
    assert best_threads(graph, device="cpu", most=2, tell=told.append) == 2
    assert best_threads(graph, device="cpu", most=2) == 2
    assert times.asked == [(1, 1), (1, 2)]
    assert told == ["measuring the best number of threads for model.onnx, once for this machine"]
    times.seconds[4] = 0.1
    assert best_threads(graph, device="cpu", most=4, tell=ignore) == 4  # more cores
    assert best_threads(graph, device="cpu", most=2, rows=8) is None  # more rows
    graph.with_name("model.onnx_data").write_bytes(b"weights of a larger model")
    assert best_threads(graph, device="cpu", most=2) is None


@pytest.mark.parametrize("content", ["", "[]", '{"threads": {"a": 0}}', '{"threads": 2}'])
def test_a_broken_file_of_kept_numbers_is_replaced(graph, monkeypatch, content):
    measured(monkeypatch, {1: 1.0, 2: 0.5})
    thread_count.cache_file().parent.mkdir(parents=True)
    thread_count.cache_file().write_text(content)
    assert best_threads(graph, device="cpu", most=2, tell=ignore) == 2
    assert list(json.loads(thread_count.cache_file().read_text())["threads"].values()) == [2]


def test_a_cache_that_cannot_be_written_costs_only_the_keeping(graph, monkeypatch):
    times = measured(monkeypatch, {1: 1.0, 2: 0.5})
    graph.with_name("cache").write_text("a file where the folder should be")
    assert best_threads(graph, device="cpu", most=2, tell=ignore) == 2
    assert best_threads(graph, device="cpu", most=2, tell=ignore) == 2
    assert len(times.asked) == 4


@pytest.mark.parametrize(
    ("name", "device", "most"), [("model.plan", "cpu", 2), ("model.onnx", "cuda", 2), ("model.onnx", "cpu", 1)]
)
def test_nothing_is_measured_where_threads_do_not_matter(graph, monkeypatch, name, device, most):
    times = measured(monkeypatch, {})
    graph.with_name(name).write_bytes(b"a graph or a plan")
    assert best_threads(graph.with_name(name), device=device, most=most, tell=ignore) is None
    assert not times.asked


def test_a_graph_that_does_not_run_is_left_to_its_loading(graph):
    assert best_threads(graph, device="cpu", most=2, tell=ignore) is None
    assert not thread_count.cache_file().exists()


def test_a_session_is_loaded_with_each_number_of_threads(graph, monkeypatch):
    loaded = []

    def load(path: Path, *, device: str, threads: int):
        loaded.append((path, device, threads))
        if threads == 2:
            raise ArtifactError("no more")
        return StepCounter()

    monkeypatch.setattr(thread_count, "load_session", load)
    monkeypatch.setattr(thread_count, "PAUSE_S", 0)
    assert best_threads(graph, device="cpu", rows=3, most=2, tell=ignore) is None
    assert loaded == [(graph, "cpu", 1), (graph, "cpu", 2)]
    assert StepCounter.shapes == {(3, 16), (3,)}
    assert StepCounter.steps == thread_count.BURSTS * (thread_count.WARM_STEPS + thread_count.STEPS)


class StepCounter:
    """A session that only counts."""

    shapes: ClassVar[set[tuple[int, ...]]] = set()
    steps = 0

    def reset(self, rows: int) -> None:
        assert rows == 3

    def prefill(self, ids) -> None:
        self.shapes.add(ids.shape)

    def decode(self, tokens) -> None:
        self.shapes.add(tokens.shape)
        StepCounter.steps += 1


def test_native_operators_have_a_number_of_their_own(graph, monkeypatch):
    monkeypatch.setattr(thread_count, "native_library", lambda: None)
    stand_in = measured(monkeypatch, {1: 1.0, 2: 0.5})
    assert best_threads(graph, device="cpu", most=2, tell=ignore) == 2
    monkeypatch.setattr(thread_count, "native_library", lambda: Path("operators.so"))
    stand_in.seconds = {1: 0.5, 2: 0.5}
    assert best_threads(graph, device="cpu", most=2, tell=ignore) == 1
    assert [threads for _, threads in stand_in.asked] == [1, 2, 1, 2]
    monkeypatch.setattr(thread_count, "native_library", lambda: None)
    assert best_threads(graph, device="cpu", most=2) == 2
