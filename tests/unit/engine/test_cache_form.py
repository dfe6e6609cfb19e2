"""Which form of the cache a plan gets: by what is asked for, what the parser takes, and what graph there is."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from minimind_edge.export.engine.cache_form import check_cache_form, choose_cache_form
from minimind_edge.export.engine.source import open_source
from minimind_edge.export.errors import ExportError
from minimind_edge.runtime.errors import MissingError, UsageError
from minimind_edge.runtime.tensorrt.backend import Backend


class Logger:
    """TensorRT's `ILogger`."""


def tensorrt(operators, version="10.3.0.26"):
    """TensorRT whose parser knows these operators."""
    parser = SimpleNamespace(supports_operator=lambda name: name in operators)
    module = SimpleNamespace(
        __version__=version,
        ILogger=Logger,
        Builder=lambda logger: SimpleNamespace(create_network=lambda flags: None),
        NetworkDefinitionCreationFlag=SimpleNamespace(STRONGLY_TYPED=1),
        OnnxParser=lambda network, logger: parser,
    )
    return Backend("tensorrt", module)


OLD, NEW = tensorrt({"MatMul"}), tensorrt({"MatMul", "TensorScatter"}, "10.15.0.1")


@pytest.mark.parametrize(
    ("asked", "backend", "expected"),
    [
        ("auto", NEW, "static"),
        ("auto", OLD, "growing"),
        ("static", NEW, "static"),
        ("growing", NEW, "growing"),
        ("growing", OLD, "growing"),
    ],
)
def test_the_form_is_what_the_parser_takes(asked, backend, expected):
    assert choose_cache_form(asked, backend) == expected


def test_the_static_form_on_an_old_tensorrt():
    with pytest.raises(MissingError, match=r"TensorRT 10\.3\.0\.26 does not know TensorScatter.*--cache growing"):
        choose_cache_form("static", OLD)


def graph(form):
    return SimpleNamespace(path="model.onnx", cache_form=form)


def test_a_graph_that_is_there_already():
    check_cache_form(graph("static"), "auto", "static", NEW)
    check_cache_form(graph("growing"), "auto", "static", NEW)
    check_cache_form(graph("growing"), "auto", "growing", OLD)
    check_cache_form(graph("growing"), "growing", "growing", NEW)
    with pytest.raises(ExportError, match=r"model\.onnx in place: export .*--target tensorrt --cache growing"):
        check_cache_form(graph("static"), "auto", "growing", OLD)
    with pytest.raises(UsageError, match=r"has a growing cache, not a static one.*--cache static"):
        check_cache_form(graph("growing"), "static", "static", NEW)


def test_a_checkpoint_is_exported_with_that_form(random_model, config_of_kind, tmp_path):
    from minimind_edge.export.engine import EngineRequest
    from minimind_edge.export.engine.engine_graph import EngineGraph

    torch.save(random_model(config_of_kind("minimind2")).state_dict(), tmp_path / "tiny.pth")
    request = EngineRequest(tmp_path / "tiny.pth", precision="fp16", max_length=64)
    with open_source(request, "growing", lambda stage, done: None) as source:
        read = EngineGraph.read(source.graph)
    assert (read.cache_form, read.opset, read.cache.capacity) == ("growing", 19, 64)
    assert source.parity["passed"]
