"""Which operators a session runs: native ones where their package is installed and loads, else ONNX Runtime's."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
from graph_files import write_graph
from graph_rows import make_model

from minimind_edge.export.errors import ExportError
from minimind_edge.export.parity.graph_file import can_be_native, open_native_session
from minimind_edge.runtime.batch.loading import load_slots
from minimind_edge.runtime.errors import ArtifactError
from minimind_edge.runtime.load import load_session
from minimind_edge.runtime.ort import loading
from minimind_edge.runtime.ort.native import PACKAGE, native_library, warn_of_stock_operators

Install = Callable[..., None]


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A graph that can have native operators."""
    return write_graph(tmp_path_factory.mktemp("graph"), make_model("gqa", head_dim=64))


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install a package whose `library()` is this function; None for no package."""

    def put(library: Callable[[], Path | None] | None) -> None:
        monkeypatch.setitem(sys.modules, PACKAGE, None if library is None else SimpleNamespace(library=library))

    monkeypatch.delenv("MINIMIND_EDGE_NATIVE", raising=False)
    warn_of_stock_operators.cache_clear()
    yield put
    warn_of_stock_operators.cache_clear()


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    assert all(record.levelno == logging.WARNING for record in caplog.records)
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("library", [None, lambda: None], ids=["not installed", "not for this processor"])
def test_without_a_library_the_operators_are_stock_and_nobody_is_warned(graph, install, caplog, library):
    install(library)
    assert load_session(graph, threads=1).facts.operators == "stock"
    assert not can_be_native(graph)
    assert warnings_of(caplog) == []


def test_0_turns_them_off_before_the_package_is_imported(install, monkeypatch):
    install(lambda: pytest.fail("asked for its library"))
    monkeypatch.setenv("MINIMIND_EDGE_NATIVE", "0")
    assert native_library() is None


def test_other_values_leave_them_on(install, monkeypatch):
    install(lambda: Path("operators.so"))
    for value in ("", "1", "yes"):
        monkeypatch.setenv("MINIMIND_EDGE_NATIVE", value)
        assert native_library() == Path("operators.so")


def test_a_caller_that_wants_stock_operators_gets_them(graph, install):
    install(lambda: pytest.fail("asked for its library"))
    assert load_session(graph, threads=1, native=False).facts.operators == "stock"


def test_another_device_has_stock_operators(graph, install, monkeypatch):
    install(lambda: pytest.fail("asked for its library"))
    monkeypatch.setattr(loading, "execution_providers", lambda *_: ["AzureExecutionProvider", "CPUExecutionProvider"])
    assert load_session(graph, threads=1).facts.operators == "stock"


def broken(folder: Path) -> Path:
    (folder / "operators.so").write_text("no library")
    return folder / "operators.so"


@pytest.mark.parametrize("kind", ["missing", "broken"])
def test_a_library_that_does_not_load_is_told_once_and_changes_no_number(graph, install, caplog, tmp_path, kind):
    install(lambda: broken(tmp_path) if kind == "broken" else tmp_path / "operators.so")
    expected = load_session(graph, threads=1, native=False).prefill(np.arange(9)[None])
    for _ in range(2):
        session = load_session(graph, threads=1)
        assert session.facts.operators == "stock"
        assert np.array_equal(session.prefill(np.arange(9)[None]), expected)
    (told,) = warnings_of(caplog)
    assert told.startswith("the operators of minimind-edge-native do not load, ONNX Runtime's own are used: ")
    assert "MINIMIND_EDGE_NATIVE=0" in told
    assert "\n" not in told


def test_a_library_without_the_operators_is_told_and_slots_run_with_stock_ones(graph, install, caplog, monkeypatch):
    class Options(onnxruntime.SessionOptions):
        def register_custom_ops_library(self, path: str) -> None:
            """Register nothing: the graph's operators are unknown."""

    def options(_, threads: int | None) -> Options:
        made = Options()
        made.intra_op_num_threads = threads or 1
        made.log_severity_level = loading.SILENT
        return made

    install(lambda: Path("operators.so"))
    monkeypatch.setattr(loading, "session_options", options)
    slots = load_slots(graph, slots=2, threads=1)
    assert slots.facts.operators == "stock"
    (told,) = warnings_of(caplog)
    assert "CachedAttention" in told or "SkipRMSNorm" in told


def test_a_graph_that_does_not_load_either_way_is_told_as_that(graph, install, caplog, tmp_path):
    model = onnx.load(graph)
    model.graph.node[-1].op_type = "NoSuchOperator"
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    install(lambda: broken(tmp_path))
    with pytest.raises(ArtifactError, match=r"cannot load .*NoSuchOperator"):
        load_session(tmp_path / "model.onnx", threads=1)
    assert warnings_of(caplog) == []


@pytest.mark.parametrize("error", [OSError("no"), AttributeError("no symbol"), ImportError("a broken file")])
def test_a_package_that_fails_is_told(install, caplog, error):
    def fail() -> Path:
        raise error

    install(fail)
    assert native_library() is None
    (told,) = warnings_of(caplog)
    assert str(error) in told


def test_a_comparison_with_native_operators_never_runs_stock_ones(graph, install, tmp_path):
    install(lambda: broken(tmp_path))
    assert can_be_native(graph)
    with pytest.raises(ExportError, match="native operators do not load"):
        open_native_session(graph)


def test_a_graph_that_claims_native_operators_is_the_one_in_the_file(graph, install, tmp_path):
    """The property is the runtime's own mark; in a file it changes nothing but what is shown."""
    install(None)
    model = onnx.load(graph)
    model.metadata_props.add(key="minimind_edge.operators", value="more\nlines")
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    assert load_session(tmp_path / "model.onnx", threads=1).facts.operators == "stock"
